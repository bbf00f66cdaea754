"""The base's tokenizer with the words one adapter adds to the vocabulary, as a copy nobody else sees.

Owns the ids of added words: the first is the base's vocabulary size, though the library numbers from the end of its
own vocabulary, and checkpoints often have more embedding rows than their tokenizer has tokens.
"""

from collections.abc import Sequence
from itertools import groupby

from headmix_adapters.artifact.faults import MAX_FAULTS
from headmix_server.text.byte_alphabet import CHARACTERS
from headmix_server.text.token_names import bytes_name
from headmix_server.text.tokenizer import Tokenizer


class AddedTokensError(Exception):
    """Words that cannot be added to the base's vocabulary; one fault each, of many the first hundred."""

    def __init__(self, faults: Sequence[str]) -> None:
        more = len(faults) - MAX_FAULTS
        self.faults = (*faults[:MAX_FAULTS], *([f"and {more} more faults"] if more > 0 else []))
        super().__init__("; ".join(self.faults))


class ExtendedTokenizer(Tokenizer):
    """A base's tokenizer and further words with the ids from `first` up.

    Raises:
        AddedTokensError: a word is a token of the base, or the base's tokenizer has tokens beyond `first`.
    """

    def __init__(self, base: Tokenizer, words: Sequence[str], first: int) -> None:
        known = [(place, word) for place, word in enumerate(words) if base.token_id(word) is not None]
        if known:
            raise AddedTokensError([f"added_tokens[{place}]: {word!r} is a token of the base" for place, word in known])
        extended = base.with_words(words)
        inner = [token for word in words if (token := extended.token_id(word)) is not None]
        if inner[0] > first or inner != list(range(inner[0], inner[0] + len(words))):
            raise AddedTokensError([f"added_tokens: the base's tokenizer has more tokens than the base's {first} rows"])
        self._words = tuple(words)
        self._first = first
        self._shift = first - inner[0]
        self._unused = range(inner[0], first)
        self._plain = base
        super().__init__(extended)

    def own_ids(self, ids: list[int]) -> list[int]:
        """Return ids of the library's numbering with the added words' where they belong."""
        inner = self._first - self._shift
        return [token + self._shift if token >= inner else token for token in ids] if self._shift else ids

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """Return the text of `ids`; ids between the tokenizer's tokens and the added ones stand for nothing."""
        if self.byte_level:
            return self._decode_by_runs(ids, skip_special_tokens)
        inner = [token - self._shift if token >= self._first else token for token in ids if token not in self._unused]
        return super().decode(inner, skip_special_tokens=skip_special_tokens)

    def _decode_by_runs(self, ids: Sequence[int], skip: bool) -> str:
        """Decode between the added words, which a byte-level decoder would take for letters of its byte alphabet."""
        text = ""
        for added, run in groupby(ids, key=lambda token: token >= self._first):
            if added:
                text += "".join(self._word(token) for token in run)
            else:
                own = [token for token in run if token not in self._unused]
                text += super().decode(own, skip_special_tokens=skip)
        return text

    def piece(self, token: int) -> str | None:
        """Return a token as the vocabulary writes it; None where no token has this id."""
        if token < self._first:
            return None if token in self._unused else super().piece(token)
        place = token - self._first
        return self._words[place] if place < len(self._words) else None

    def is_hidden(self, token: int) -> bool:
        """Whether a token leaves no trace in decoded text; an added word does leave one."""
        return self.piece(token) is None if token >= self._first else super().is_hidden(token)

    def fallback_byte(self, token: int) -> int | None:
        """Return the byte that one of the base's tokens stands for; None for other tokens."""
        return None if token >= self._first else super().fallback_byte(token)

    def token_bytes(self, token: int) -> bytes | None:
        """Return what a token adds to a text; an added word adds itself."""
        if token < self._first:
            return super().token_bytes(token)
        word = self.piece(token)
        return None if word is None else word.encode()

    def _names_of_their_own(self) -> dict[int, str]:
        """Name the words by their text, and by its bytes what the base has for the same text."""
        names = self._plain.names_of_their_own
        return names | {token: bytes_name(word.encode()) for word in self._words for token in self._named(word)}

    def _named(self, name: str) -> list[int]:
        """Return the base's tokens of this name, however its vocabulary writes them."""
        raw = name.encode()
        spellings = [name.replace(" ", "▁"), "".join(CHARACTERS[byte] for byte in raw), f"<0x{raw[0]:02X}>"]
        tokens = [token for spelling in spellings if (token := self._plain.token_id(spelling)) is not None]
        return [token for token in tokens if self._plain.name(token) == name]

    def _word(self, token: int) -> str:
        return self.piece(token) or ""
