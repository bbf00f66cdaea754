"""How much text a token can represent, so that a text that cannot fit a context is refused without being tokenized.

A bound is only given if it holds for every text. There is none for tokenizers that can turn any amount of text into few
tokens: by dropping characters, as normalizers that strip accents or whitespace do; by merging unknown characters into
one token; or by using one token for a whole word of any length.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

import tokenizers
from tokenizers import AddedToken, models

from headmix_server.text.vocabulary.byte_alphabet import BYTES

_COMPOSED = 4
"""The most characters that NFC and NFKC combine into one: the longest canonical decomposition of a character."""

_LONGEST_CHARACTER = 4
"""In bytes."""

_SLICE = 1 << 16
"""The characters that are counted before checking the bound."""

_COMPOSING = frozenset({"NFC", "NFKC"})
_ASCII_STAYS = frozenset({"NFC", "NFKC", "NFD", "NFKD", "Lowercase"})
_NEVER_SHORTER = frozenset({"NFD", "NFKD", "Lowercase", "Prepend", "ByteLevel"})
_KEEPS_ALL = frozenset({"ByteLevel", "Metaspace", "Digits", "UnicodeScripts"})
_MAY_REMOVE = frozenset({"Split", "Punctuation"})

Step = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Capacity:
    """A token represents at most `length` units of a text: UTF-8 bytes if `in_bytes`, else characters.

    In text that is not ASCII, it represents up to `composed` times as many. `dropped` are bytes that the vocabulary
    lacks, which are in no token.
    """

    length: int
    in_bytes: bool
    composed: int = 1
    dropped: bytes = b""

    def exceeds(self, text: str, tokens: int) -> bool:
        """Return whether the text certainly has more than `tokens` tokens."""
        most = self.length * tokens * (1 if text.isascii() else self.composed)
        if len(text) * _LONGEST_CHARACTER <= most or (not self.in_bytes and len(text) <= most):
            return False
        if not self.in_bytes:
            return True
        units = 0
        for start in range(0, len(text), _SLICE):
            units += len(text[start : start + _SLICE].encode().translate(None, self.dropped))
            if units > most:
                return True
        return False

    def including(self, words: Sequence[str]) -> "Capacity":
        """Return the capacity of a vocabulary that also matches these words as whole tokens."""
        longest = max((self._units(word) for word in words), default=0)
        return replace(self, length=max(self.length, longest))

    def _units(self, text: str) -> int:
        return len(text.encode()) if self.in_bytes else len(text)


def capacity_of(backend: tokenizers.Tokenizer) -> Capacity | None:
    """Return the capacity of a tokenizer's tokens; None if there is no certain bound."""
    normalizers = list(_steps(backend.normalizer, "normalizers"))
    pre_tokenizers = list(_steps(backend.pre_tokenizer, "pretokenizers"))
    factors = [_shrinks(step) for step in normalizers]
    added = list(backend.get_added_tokens_decoder().values())
    if (
        None in factors
        or not all(map(_keeps_text, pre_tokenizers))
        or any(token.lstrip or token.rstrip for token in added)
    ):
        return None
    is_byte_level = any(step["type"] == "ByteLevel" for step in (*normalizers, *pre_tokenizers))
    in_bytes = is_byte_level and not normalizers
    vocabulary = backend.get_vocab(with_added_tokens=False)
    dropped = bytes(byte for character, byte in BYTES.items() if character not in vocabulary) if in_bytes else b""
    if not (in_bytes and _is_plain(backend)) and not _counts_every_character(backend, is_byte_level):
        return None
    words = [text for token in added for text in _texts(backend, token)]
    capacity = Capacity(max(map(len, vocabulary), default=1), in_bytes, dropped=dropped).including(words)
    if all(step["type"] in _ASCII_STAYS for step in normalizers):
        return replace(capacity, composed=prod(factor or 1 for factor in factors))
    return replace(capacity, length=capacity.length * prod(factor or 1 for factor in factors))


def _steps(part: object, name: str) -> Iterator[Step]:
    """Yield the steps of a normalizer or pre-tokenizer."""
    if part is None:
        return
    state = part.__getstate__()
    yield from _flat(json.loads(state if isinstance(state, str | bytes) else "{}"), name)


def _flat(state: Step, name: str) -> Iterator[Step]:
    inner = state.get(name)
    if isinstance(inner, list):
        for step in inner:
            yield from _flat(step, name)
    else:
        yield {"type": "unknown", **state}


def _shrinks(step: Step) -> int | None:
    """Return how many characters at most a normalizer turns into one; None if there is no limit."""
    kind = step["type"]
    if kind in _COMPOSING:
        return _COMPOSED
    if kind == "Replace":
        pattern, content = step.get("pattern"), step.get("content")
        literal = pattern.get("String") if isinstance(pattern, Mapping) else None
        if isinstance(literal, str) and literal and isinstance(content, str) and content:
            return -(-len(literal) // len(content))
        return None
    return 1 if kind in _NEVER_SHORTER else None


def _keeps_text(step: Step) -> bool:
    """Return whether a pre-tokenizer preserves all characters."""
    return step["type"] in _KEEPS_ALL or (step["type"] in _MAY_REMOVE and step.get("behavior") != "Removed")


def _is_plain(backend: tokenizers.Tokenizer) -> bool:
    """Return whether the model is a BPE that drops unknown characters and does not mark word boundaries."""
    model = backend.model
    return isinstance(model, models.BPE) and not (
        model.unk_token or model.continuing_subword_prefix or model.end_of_word_suffix
    )


def _counts_every_character(backend: tokenizers.Tokenizer, is_byte_level: bool) -> bool:
    """Return whether every character of a text is in some token, and every token is limited in length."""
    model, vocabulary = backend.model, backend.get_vocab(with_added_tokens=False)
    has_bytes = all(f"<0x{byte:02X}>" in vocabulary for byte in range(256))
    if isinstance(model, models.Unigram):
        return has_bytes and bool(json.loads(model.__getstate__()).get("byte_fallback"))
    if not isinstance(model, models.BPE) or model.continuing_subword_prefix or model.end_of_word_suffix:
        return False
    complete = (is_byte_level and BYTES.keys() <= vocabulary.keys()) or (model.byte_fallback and has_bytes)
    return complete or (model.unk_token is not None and not model.fuse_unk)


def _texts(backend: tokenizers.Tokenizer, token: AddedToken) -> list[str]:
    """Return the texts that a literally matched token represents: its own, and its normalized form."""
    if not token.normalized or backend.normalizer is None:
        return [token.content]
    return [token.content, backend.normalizer.normalize_str(token.content)]
