"""Tokenizes special tokens in clients' texts as plain text: a second reader of the same vocabulary, used on request.

A text with `<|im_end|><|im_start|>assistant` in it otherwise ends its turn and begins another, since tokenizers find
special tokens anywhere. With this reader, only those written by a chat template are tokens. Everything else is
tokenized as the base does: a text without special tokens has the same ids.
"""

import re
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence

import tokenizers
from tokenizers import AddedToken

from headmix_adapters.text.tokenizer import BaseTokenizer, EncodedPair, encoded_pair

_MARK_CHARACTERS = 8
"""Characters with 16 random bits each: no client can guess a mark."""


class UncuttableTokenError(Exception):
    """The vocabulary turns even plain characters into a special token; `text` is that of the token."""

    def __init__(self, text: str) -> None:
        super().__init__(f"this base reads {text!r} as a special token even as text")
        self.text = text

    def __reduce__(self) -> tuple[type["UncuttableTokenError"], tuple[str]]:
        return UncuttableTokenError, (self.text,)


class PlainTextReader:
    """Tokenizes texts, with ids numbered by `own_ids`; immutable and safe to share between threads.

    A conversation takes three steps: `hide` each of the client's texts, render the template, `encode` the result.
    Special tokens that were hidden are tokenized as text, the others are the template's.
    """

    def __init__(self, base: BaseTokenizer, own_ids: Callable[[list[int]], list[int]]) -> None:
        self._own_ids = own_ids
        self._typed = base.typed
        special = {n: t for n, t in base.backend.get_added_tokens_decoder().items() if t.special}
        self._backend = tokenizers.Tokenizer.from_str(base.backend.to_str())
        self._backend.encode_special_tokens = True
        self._marks = {token.content: _mark() for token in special.values()}
        self._hidden = {token.content: _mark() for token in special.values()}
        self._shown = {mark: text for text, mark in self._hidden.items()}
        self._backend.add_tokens([_marked(token, self._marks[token.content]) for token in special.values()])
        self._ids = {self._backend.token_to_id(self._marks[token.content]): n for n, token in special.items()}
        unknown = base.roles.get("unk_token")
        self._forged = {n: token.content for n, token in special.items() if token.content != unknown}
        self._find = matcher(tuple(self._marks))
        self._find_hidden = matcher(tuple(self._shown))

    def hide(self, text: str) -> str:
        """Return a client's text in a form that a template may see: without special tokens, whatever it contains."""
        return self._find.sub(lambda match: self._hidden[match[0]], text)

    def encode(self, rendered: str, *, add_special_tokens: bool = True) -> list[int]:
        """Return the ids of a rendered text; only special tokens that are not hidden become such tokens.

        Raises:
            UncuttableTokenError: a hidden one cannot be tokenized as text.
        """
        marked = self._find.sub(lambda match: self._marks[match[0]], rendered)
        return self._encode(marked, add_special_tokens=add_special_tokens)

    def encode_text(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Return the ids of a text that is entirely a client's; raises as `encode` does."""
        return self.encode(self.hide(text), add_special_tokens=add_special_tokens)

    def encode_pair(self, first: str, second: str) -> EncodedPair:
        """Return two texts as one input, both entirely a client's.

        Raises:
            UncuttableTokenError: as `encode`.
            ValueError: as `encoded_pair`.
        """
        first, second = (self._shown_text(self.hide(text)) for text in (first, second))
        for text in (first, second):
            self._require_text(self._backend.encode(text, add_special_tokens=False))
        pair = encoded_pair(self._backend.encode(first, second), typed=self._typed)
        return EncodedPair(self._own_ids([self._ids.get(token, token) for token in pair.ids]), pair.second)

    def _shown_text(self, marked: str) -> str:
        return self._find_hidden.sub(lambda match: self._shown[match[0]], marked)

    def _require_text(self, encoding: tokenizers.Encoding) -> None:
        for token in self._forged.keys() & set(encoding.ids):
            raise UncuttableTokenError(self._forged[token])

    def _encode(self, marked: str, *, add_special_tokens: bool) -> list[int]:
        encoding = self._backend.encode(self._shown_text(marked), add_special_tokens=False)
        self._require_text(encoding)
        if add_special_tokens:
            encoding = self._backend.post_process(encoding)
        return self._own_ids([self._ids.get(token, token) for token in encoding.ids])


def _mark() -> str:
    """Return a string that occurs in no text: private-use characters, drawn at random."""
    return "".join(chr(0xF0000 + secrets.randbelow(0xFFFE)) for _ in range(_MARK_CHARACTERS))


def _marked(token: AddedToken, mark: str) -> AddedToken:
    """Return a token that matches as the special one would, with the mark for its text, but is not special."""
    return AddedToken(
        mark,
        single_word=token.single_word,
        lstrip=token.lstrip,
        rstrip=token.rstrip,
        normalized=token.normalized,
        special=False,
    )


def matcher(texts: tuple[str, ...]) -> re.Pattern[str]:
    """Return a pattern for any of the texts, the longest first; matching takes no longer with more texts."""
    return re.compile(_alternatives(sorted(texts)) if texts else r"(?!)")


def _alternatives(texts: Sequence[str]) -> str:
    """Return a pattern of sorted texts, with common beginnings written once."""
    branches = [f"{re.escape(first)}{_alternatives(rest)}" for first, rest in _by_first(texts) if first]
    ends = texts[0] == ""
    if not branches:
        return ""
    pattern = branches[0] if len(branches) == 1 and not ends else f"(?:{'|'.join(branches)})"
    return f"{pattern}?" if ends else pattern


def _by_first(texts: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    groups: Mapping[str, list[str]] = {text[:1]: [] for text in texts}
    for text in texts:
        groups[text[:1]].append(text[1:])
    yield from groups.items()
