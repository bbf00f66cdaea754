"""The base's tokenizer extended by the words that one adapter adds, which no other adapter sees.

Owns the ids of added words: the first one is the base's vocabulary size. The library numbers from the end of its own
vocabulary instead, and checkpoints often have more embedding rows than their tokenizer has tokens.
"""

from collections.abc import Sequence
from functools import cached_property
from itertools import groupby

from headmix_adapters.artifact.faults import MAX_FAULTS
from headmix_adapters.text.tokenizer import EncodedPair
from headmix_server.text.tokenizer import Tokenizer
from headmix_server.text.vocabulary.byte_alphabet import CHARACTERS
from headmix_server.text.vocabulary.token_names import bytes_name, plain_name
from headmix_server.text.workers.encoder import Encoder, Words


class AddedTokensError(Exception):
    """Words that cannot be added to the base's vocabulary, with one fault each, of which a hundred are listed."""

    def __init__(self, faults: Sequence[str]) -> None:
        more = len(faults) - MAX_FAULTS
        self.faults = (*faults[:MAX_FAULTS], *([f"and {more} more faults"] if more > 0 else []))
        super().__init__("; ".join(self.faults))


class ExtendedTokenizer(Tokenizer):
    """A base's tokenizer plus further words, with ids from `first` on. Creating one is cheap.

    Raises:
        AddedTokensError: a word is a token of the base, or the base's tokenizer has tokens beyond `first`.
    """

    def __init__(self, base: Tokenizer, words: Sequence[str], first: int, *, digest: str = "") -> None:
        known = [(place, word) for place, word in enumerate(words) if base.token_id(word) is not None]
        if known:
            raise AddedTokensError([f"added_tokens[{place}]: {word!r} is a token of the base" for place, word in known])
        if len(set(words)) < len(words) or not all(words):
            raise AddedTokensError(["added_tokens: a word is empty or appears twice"])
        if base.next_id > first:
            raise AddedTokensError([f"added_tokens: the base's tokenizer has more tokens than the base's {first} rows"])
        vars(self).update(vars(base))  # everything except the words is shared with the base
        self.words = Words(digest, tuple(words), first)
        self._words = self.words.words
        self._places = {word: place for place, word in enumerate(self._words)}
        self._first = first
        self._unused = range(base.next_id, first)
        self._plain = base
        self.vocab_size = base.vocab_size + len(words)
        self.capacity = None if base.capacity is None else base.capacity.including(words)
        # Words are named by their text; a token of the base with the same text is named by its bytes.
        self._renamed = {token: bytes_name(word.encode()) for word in self._words for token in self._named(word)}

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Return the ids of `text`, including those of added words. A text with words needs the copy in `encoder`."""
        if self.needs_copy(text):
            return self._encoder.encode(text, add_special_tokens=add_special_tokens)
        return self._plain.encode(text, add_special_tokens=add_special_tokens)

    def encode_pair(self, first: str, second: str) -> EncodedPair:
        """Return two texts as one input; raises as `Tokenizer.encode_pair`."""
        if self.needs_copy(first) or self.needs_copy(second):
            return self._encoder.encode_pair(first, second, split=False)
        return self._plain.encode_pair(first, second)

    def needs_copy(self, text: str) -> bool:
        """Return whether the text contains added words. They match literally; other texts are tokenized as before."""
        return any(word in text for word in self._words)

    @cached_property
    def _encoder(self) -> Encoder:
        return Encoder(self.reader, self.words)

    @property
    def num_words(self) -> int:
        """The number of added words."""
        return len(self._words)

    def token_id(self, piece: str) -> int | None:
        """Return the id of a token in the vocabulary's spelling; None if there is no such token."""
        place = self._places.get(piece)
        return super().token_id(piece) if place is None else self._first + place

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool | None = None) -> str:
        """Return the text of `ids`; ids between the tokenizer's own tokens and the added ones have no text."""
        skip = self._skips_special if skip_special_tokens is None else skip_special_tokens
        if self.byte_level:
            return self._decode_by_runs(ids, skip)
        shown = [token for token in ids if not (skip and self.is_hidden(token))]
        return self.join([piece for token in shown if (piece := self.piece(token)) is not None])

    def _decode_by_runs(self, ids: Sequence[int], skip: bool) -> str:
        """Decode the runs between added words, which a byte-level decoder would read in its byte alphabet."""
        text = ""
        for added, run in groupby(ids, key=lambda token: token >= self._first):
            if added:
                text += "".join(self._word(token) for token in run)
            else:
                own = [token for token in run if token not in self._unused]
                text += super().decode(own, skip_special_tokens=skip)
        return text

    def piece(self, token: int) -> str | None:
        """Return a token in the vocabulary's spelling; None if no token has this id."""
        if token < self._first:
            return None if token in self._unused else super().piece(token)
        place = token - self._first
        return self._words[place] if place < len(self._words) else None

    def is_hidden(self, token: int) -> bool:
        """Return whether a token leaves no trace in decoded text; an added word does leave one."""
        return self.piece(token) is None if token >= self._first else super().is_hidden(token)

    def fallback_byte(self, token: int) -> int | None:
        """Return the byte that one of the base's tokens represents; None for other tokens."""
        return None if token >= self._first else super().fallback_byte(token)

    def token_bytes(self, token: int) -> bytes | None:
        """Return what a token adds to a text; an added word adds itself."""
        if token < self._first:
            return super().token_bytes(token)
        word = self.piece(token)
        return None if word is None else word.encode()

    def name(self, token: int) -> str:
        """Return a token's name in log-probabilities; no two tokens have the same name."""
        renamed = self._renamed.get(token)
        if renamed is not None:
            return renamed
        return self._plain.name(token) if token < self._first else plain_name(self, token)

    def _named(self, name: str) -> list[int]:
        """Return the base's tokens of this name, in any spelling of its vocabulary."""
        raw = name.encode()
        spellings = [name.replace(" ", "▁"), "".join(CHARACTERS[byte] for byte in raw), f"<0x{raw[0]:02X}>"]
        tokens = [token for spelling in spellings if (token := self._plain.token_id(spelling)) is not None]
        return [token for token in tokens if self._plain.name(token) == name]

    def _word(self, token: int) -> str:
        return self.piece(token) or ""
