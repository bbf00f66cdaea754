"""The base's tokenizer as serving needs it: the ids of the shared reader, and what each token adds to a text.

The meaning of the folder's files is up to `headmix_adapters.text`; this module owns how tokens are shown. It knows
neither adapters nor HTTP; `text.vocabulary.extended` adds an adapter's words.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from functools import cached_property, lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Self

import tokenizers
from tokenizers import models

from headmix_adapters.text.tokenizer import BaseTokenizer, EncodedPair, read_tokenizer
from headmix_server.text.capacity import capacity_of
from headmix_server.text.plain_text import matcher
from headmix_server.text.vocabulary.byte_alphabet import BYTES
from headmix_server.text.vocabulary.token_names import plain_name, renamed_tokens
from headmix_server.text.workers.encoder import Words


class Tokenizer:
    """Text to token ids and back; immutable once loaded and safe to share between threads.

    `special_tokens` maps `bos_token` and the like to their text; `eos_ids` are the ids that end a generation.
    `byte_level` means that tokens are written in GPT-2's byte alphabet, so that a text is its tokens' bytes joined;
    `byte_fallback` that some tokens represent single bytes of characters that the vocabulary lacks.
    """

    def __init__(self, base: BaseTokenizer) -> None:
        self._base = base
        self._backend = base.backend
        kinds = set(_kinds(_decoder(base.backend)))
        self.byte_level = kinds == {"ByteLevel"}
        self.byte_fallback = "ByteFallback" in kinds
        self.special_tokens = MappingProxyType(dict(base.roles))
        self.eos_ids = base.eos_ids
        self.vocab_size = base.size
        added = base.backend.get_added_tokens_decoder()
        self._hidden = frozenset(number for number, token in added.items() if token.special)
        self._skips_special = True
        anchor = next(filter(self._is_anchor, range(self.vocab_size)), None)
        self._before = [] if anchor is None else [anchor]
        self._before_length = len(self.decode(self._before))
        special = {number: plain_name(self, number) for number in self._hidden}
        self._names_of_their_own = {**special, **renamed_tokens(self)}
        self.words: Words | None = None
        self.capacity = capacity_of(base.backend)
        self._find_special = _special_tokens(base.backend)

    @property
    def notes(self) -> tuple[str, ...]:
        """The parts of the folder's files that have no effect, as one sentence each."""
        return self._base.notes

    @property
    def reader(self) -> BaseTokenizer:
        """The reader of the base's texts."""
        return self._base

    @cached_property
    def around(self) -> tuple[int, int]:
        """How many special tokens the base puts before and behind a text."""
        return self._base.around()

    @property
    def next_id(self) -> int:
        """The id that the library gives to the next added token."""
        added = self._backend.get_added_tokens_decoder()
        return max(int(self._backend.get_vocab_size(with_added_tokens=False)), 1 + max(added, default=-1))

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Return the ids of `text`, with the special tokens that the base expects around it unless disabled."""
        return self._base.encode(text, add_special_tokens=add_special_tokens)

    def encode_pair(self, first: str, second: str) -> EncodedPair:
        """Return two texts as one input, with the special tokens that the base expects around a pair.

        Raises:
            ValueError: as `BaseTokenizer.encode_pair`.
        """
        return self._base.encode_pair(first, second)

    def needs_copy(self, text: str) -> bool:
        """Return whether the text needs a copy of the base's tokenizer with added words, which takes long to create."""
        return False

    def may_hold_special(self, text: str) -> bool:
        """Return whether the text may contain a special token. Without one, `split` makes no difference."""
        return self._find_special is None or self._find_special.search(text) is not None

    def showing_special_tokens(self) -> Self:
        """Return the same tokenizer, except that special tokens are part of the texts it decodes."""
        shown = copy(self)
        shown._hidden, shown._skips_special = frozenset(), False  # noqa: SLF001 - the same class
        return shown

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool | None = None) -> str:
        """Return the text of `ids`; bytes that are not UTF-8 become U+FFFD.

        Unless it is given, special tokens are skipped, except by a tokenizer made by `showing_special_tokens`.
        """
        skip = self._skips_special if skip_special_tokens is None else skip_special_tokens
        return self._base.decode(ids, skip_special_tokens=skip)

    def join(self, pieces: Sequence[str]) -> str:
        """Return the text of tokens in the vocabulary's spelling."""
        decoder = self._backend.decoder
        text: str = " ".join(pieces) if decoder is None else decoder.decode(list(pieces))
        return text

    def token_id(self, piece: str) -> int | None:
        """Return the id of a token in the vocabulary's spelling; None if there is no such token."""
        return self._base.token_id(piece)

    def piece(self, token: int) -> str | None:
        """Return a token in the vocabulary's spelling; None if no token has this id."""
        piece: str | None = self._backend.id_to_token(token)
        return piece

    def is_hidden(self, token: int) -> bool:
        """Return whether a token leaves no trace in decoded text: a special token, or an id without a token."""
        return token in self._hidden or self.piece(token) is None

    def fallback_byte(self, token: int) -> int | None:
        """Return the byte that a token such as `<0xE2>` represents; None for other tokens."""
        piece = self.piece(token) if self.byte_fallback else None
        if piece is None or len(piece) != 6 or not piece.startswith("<0x") or not piece.endswith(">"):
            return None
        try:
            return int(piece[3:5], 16)
        except ValueError:
            return None

    def token_bytes(self, token: int) -> bytes | None:
        """Return what a token adds to a text that it doesn't begin, possibly part of a character.

        None if it can add nothing: a special token, or an id without a token.
        """
        if self.is_hidden(token):
            return None
        if self.byte_level:
            return _alphabet_bytes(self.piece(token) or "")
        byte = self.fallback_byte(token)
        return self._continued(token).encode() if byte is None else bytes([byte])

    def name(self, token: int) -> str:
        """Return a token's name in log-probabilities; no two tokens have the same name."""
        return self._names_of_their_own.get(token) or plain_name(self, token)

    def _continued(self, token: int) -> str:
        """Decode a token as if it followed another one: decoders drop the space before a text's first word."""
        return self.decode([*self._before, token])[self._before_length :]

    def _is_anchor(self, token: int) -> bool:
        return not self.is_hidden(token) and self.fallback_byte(token) is None and bool(self.decode([token]).strip())


def load_tokenizer(folder: Path) -> Tokenizer:
    """Read a base's tokenizer for serving.

    Raises:
        TokenizerError: a file is missing or cannot be read.
    """
    return Tokenizer(read_tokenizer(folder))


def _special_tokens(backend: tokenizers.Tokenizer) -> re.Pattern[str] | None:
    """Return a pattern for the special tokens; None if some may also match other spellings."""
    special = [token for token in backend.get_added_tokens_decoder().values() if token.special]
    is_literal = isinstance(backend.model, models.BPE)  # others can make any piece of their vocabulary from plain text
    if backend.normalizer is not None and (not is_literal or any(token.normalized for token in special)):
        return None
    return matcher(tuple(token.content for token in special))


def _decoder(backend: tokenizers.Tokenizer) -> Mapping[str, object]:
    decoder = backend.decoder
    state: Mapping[str, object] = {} if decoder is None else json.loads(decoder.__getstate__())
    return state


def _kinds(decoder: Mapping[str, object]) -> Iterator[str]:
    """Yield the kinds of a decoder's steps."""
    steps = decoder.get("decoders")
    if isinstance(steps, list):
        for step in steps:
            yield from _kinds(step)
    elif "type" in decoder:
        yield str(decoder["type"])


@lru_cache(maxsize=2**16)  # called for every token of every response
def _alphabet_bytes(piece: str) -> bytes:
    """Return a piece's bytes; a piece that isn't in the byte alphabet, such as an added word, is encoded as it is."""
    if all(character in BYTES for character in piece):
        return bytes(BYTES[character] for character in piece)
    return piece.encode()
