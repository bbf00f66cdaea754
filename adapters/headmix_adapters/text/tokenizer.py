"""A base's tokenizer as its folder declares it: the one reader for training, serving and conversion.

tokenizer.json decides how text is split and which special tokens surround it; tokens that other files declare are
matched whole too. Uses only the `tokenizers` library: transformers would load torch, and rebuilds some classes'
tokenizers from its own code (`convert.tokenizer_check` detects where that gives other ids).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path

import tokenizers

from headmix_adapters.text.declared_tokens import declared_tokens

_PROBE = "a"


class TokenizerError(Exception):
    """The folder contains no readable tokenizer."""


@dataclass(frozen=True, slots=True)
class EncodedPair:
    """Two texts as one input. `second` is the place of the second text's first token, 0 if tokens have no types.

    A base with token types gives those from there on the second type, and all before it the first.
    """

    ids: list[int]
    second: int


def encoded_pair(encoding: tokenizers.Encoding, *, typed: bool) -> EncodedPair:
    """Return two texts that were encoded together; `typed` is `BaseTokenizer.typed`.

    Raises:
        ValueError: the tokens' types are not those of the first text followed by those of the second.
    """
    ids, types = list(encoding.ids), list(encoding.type_ids)
    if not typed:
        return EncodedPair(ids, 0)
    if types != sorted(types) or max(types, default=0) > 1:
        raise ValueError("the base's tokenizer marks the texts of a pair in an unknown way")
    return EncodedPair(ids, types.index(1) if 1 in types else 0)


@dataclass(frozen=True, slots=True)
class BaseTokenizer:
    """Text to token ids and back. `backend` is never changed once passed in.

    `roles` maps `bos_token` and so on to their text; `eos_ids` are the ids that end a generation, `end_token` is the
    one that ends a text in training. `notes` say which settings in the files have no effect. `typed`: models of this
    tokenizer are given the types of tokens, if they have types.
    """

    backend: tokenizers.Tokenizer
    roles: Mapping[str, str]
    eos_ids: frozenset[int]
    end_token: int | None
    notes: tuple[str, ...] = ()
    typed: bool = True

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Return the ids of `text`, with the special tokens the base expects around it unless told otherwise."""
        ids: list[int] = self.backend.encode(text, add_special_tokens=add_special_tokens).ids
        return ids

    def encode_pair(self, first: str, second: str) -> EncodedPair:
        """Return two texts as one input, with the special tokens that the base expects around a pair.

        Raises:
            ValueError: as `encoded_pair`.
        """
        return encoded_pair(self.backend.encode(first, second), typed=self.typed)

    def encode_cut(self, text: str, length: int) -> list[int]:
        """Return at most `length` ids: the end of the text is cut, not the special tokens around it."""
        encoding = self.backend.encode(text, add_special_tokens=False)
        encoding.truncate(max(0, length - self.backend.num_special_tokens_to_add(is_pair=False)))
        ids: list[int] = self.backend.post_process(encoding).ids
        return ids

    def around(self) -> tuple[int, int]:
        """Return how many special tokens the base expects before a text and behind it."""
        added: list[int] = self.backend.encode(_PROBE, add_special_tokens=True).special_tokens_mask
        before = [*takewhile(bool, added)]
        return len(before), len([*takewhile(bool, reversed(added[len(before) :]))])

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """Return the text of `ids`; bytes that are not UTF-8 become U+FFFD."""
        text: str = self.backend.decode(list(ids), skip_special_tokens=skip_special_tokens)
        return text

    @property
    def size(self) -> int:
        """How many tokens it has, including added ones."""
        return int(self.backend.get_vocab_size(with_added_tokens=True))

    def token_id(self, text: str) -> int | None:
        """Return the id of the token with this text, or None if there is none."""
        number = self.backend.token_to_id(text)
        return None if number is None else int(number)

    def whole_tokens(self) -> list[str]:
        """Return the text of every token that is matched whole anywhere in a text, in order of the ids."""
        found = self.backend.get_added_tokens_decoder()
        return [found[number].content for number in sorted(found)]

    def with_words(self, words: Sequence[str]) -> "BaseTokenizer":
        """Return a copy that matches these words whole; the library numbers them from the end of its vocabulary."""
        backend = tokenizers.Tokenizer.from_str(self.backend.to_str())
        backend.encode_special_tokens = self.backend.encode_special_tokens
        backend.add_tokens(literal_tokens(words))
        return replace(self, backend=backend)


def read_tokenizer(folder: Path) -> BaseTokenizer:
    """Read `tokenizer.json` and the configs next to it.

    Raises:
        TokenizerError: a file is missing or cannot be read.
    """
    backend = _read_backend(folder / "tokenizer.json")
    config = _read_json(folder / "tokenizer_config.json")
    rows = _read_json(folder / "config.json").get("vocab_size")
    declared = declared_tokens(
        config,
        _read_json(folder / "special_tokens_map.json"),
        _read_json(folder / "added_tokens.json"),
        backend.get_added_tokens_decoder(),
    )
    without_row = _add_tokens(backend, declared.tokens, rows if isinstance(rows, int) else None)
    notes = [f"the token {text!r} has no row in the base's vocabulary of {rows}: plain text" for text in without_row]
    backend.encode_special_tokens = config.get("split_special_tokens") is True
    notes += _unobeyed_flags(backend, config, declared.roles)
    end, stops = _ends(folder, backend, declared.roles)
    inputs = config.get("model_input_names")
    typed = not isinstance(inputs, list) or "token_type_ids" in inputs
    return BaseTokenizer(backend, declared.roles, stops, end, tuple(notes), typed)


def _read_backend(path: Path) -> tokenizers.Tokenizer:
    if not path.is_file():
        raise TokenizerError(f"{path.parent} holds no tokenizer.json")
    try:
        backend = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception
        raise TokenizerError(f"{path} cannot be read: {error}") from error
    backend.no_truncation()
    backend.no_padding()
    return backend


def _read_json(path: Path) -> dict[str, object]:
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise TokenizerError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise TokenizerError(f"{path} is not a JSON object")
    return content


def _add_tokens(backend: tokenizers.Tokenizer, tokens: Sequence[tokenizers.AddedToken], rows: int | None) -> list[str]:
    """Make the tokens match whole; return those left out because their id would be beyond the base's rows."""
    known = [token for token in tokens if backend.token_to_id(token.content) is not None]
    new = [token for token in tokens if backend.token_to_id(token.content) is None]
    room = len(new)
    if new and rows is not None:
        room = max(0, rows - 1 - max(backend.get_vocab(with_added_tokens=True).values(), default=-1))
    backend.add_tokens([*known, *new[:room]])
    return [token.content for token in new[room:]]


def _unobeyed_flags(backend: tokenizers.Tokenizer, config: Mapping[str, object], roles: Mapping[str, str]) -> list[str]:
    """Note if `add_bos_token` or `add_eos_token` contradicts tokenizer.json, which counts, as in transformers 5."""
    ids = backend.encode(_PROBE, add_special_tokens=True).ids
    notes = []
    for flag, role, place in (("add_bos_token", "bos_token", 0), ("add_eos_token", "eos_token", -1)):
        token = backend.token_to_id(roles[role]) if role in roles else None
        added = bool(ids) and token is not None and ids[place] == token
        if isinstance(asked := config.get(flag), bool) and token is not None and asked != added:
            does = "adds it" if added else "doesn't add it"
            notes.append(f"{flag} is {str(asked).lower()} in tokenizer_config.json; tokenizer.json {does}, and counts")
    return notes


def _ends(folder: Path, backend: tokenizers.Tokenizer, roles: Mapping[str, str]) -> tuple[int | None, frozenset[int]]:
    """Return the id that ends a text in training, and every id that ends a generation."""
    declared: list[int] = []
    for name in ("generation_config.json", "config.json"):
        value = _read_json(folder / name).get("eos_token_id")
        declared = [number for number in (value if isinstance(value, list) else [value]) if isinstance(number, int)]
        if declared:
            break
    own = backend.token_to_id(roles["eos_token"]) if "eos_token" in roles else None
    end = own if own is not None else declared[0] if len(declared) == 1 else None
    return end, frozenset(declared if own is None else [*declared, own])


def literal_tokens(words: Sequence[str]) -> list[tokenizers.AddedToken]:
    """Return the words in the form `tokenizers.Tokenizer.add_tokens` and transformers' `add_tokens` take.

    Training and serving must split the same text into the same ids: a word is matched literally anywhere in a text,
    before any normalisation, and shown when text is decoded. Its id is not assigned here: the first word gets the
    base's vocabulary size, whatever id a tokenizer would give it.
    """
    return [tokenizers.AddedToken(word, normalized=False, special=False) for word in words]
