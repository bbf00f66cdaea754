"""A grammar without a library: a list of tokens for each place, as in `1,2|3`, after which the text is complete."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from headmix_server.core.grammar import GrammarError
from headmix_server.core.types import AdapterRef

GIVE_UP_SECONDS = 20.0


class ListedMatcher:
    """See `core.grammar.Matcher`; a place that lists nothing cannot be enforced."""

    def __init__(self, places: list[list[int]], at: int = 0) -> None:
        self._places = places
        self._at = at

    def allowed(self) -> bytes:
        """See `Matcher`."""
        if not self._places[self._at]:
            raise GrammarError("too complex")
        bits = sum(1 << token for token in self._places[self._at])
        return bits.to_bytes(bits.bit_length() // 8 + 1, "little")

    def allowed_after(self, tokens: Sequence[int]) -> list[bytes]:
        """See `Matcher`."""
        masks = [self.allowed()]
        for place, token in enumerate(tokens, self._at):
            if token not in self._places[place] or place + 1 == len(self._places):
                break
            masks.append(ListedMatcher(self._places, place + 1).allowed())
        return masks

    def forced(self) -> Sequence[int]:
        """See `Matcher`: what the places with one token list, without the last place."""
        tokens: list[int] = []
        for place in self._places[self._at : -1]:
            if len(place) != 1:
                break
            tokens += place
        return tokens

    def advance(self, token: int) -> bool:
        """See `Matcher`."""
        if token not in self._places[self._at]:
            raise GrammarError(f"token {token} is not allowed")
        self._at += 1
        return self._at == len(self._places)

    def copy(self) -> "ListedMatcher":
        """See `Matcher`."""
        return ListedMatcher(self._places, self._at)


@dataclass
class ListedCompiler:
    """See `core.grammar.GrammarCompiler`; `gates` hold grammars back until they are set."""

    gates: dict[str, threading.Event] = field(default_factory=dict)
    compiled: list[tuple[str, str | None]] = field(default_factory=list)

    def compile(self, grammar: str, adapter: AdapterRef | None) -> ListedMatcher:
        """See `GrammarCompiler`."""
        if grammar in self.gates and not self.gates[grammar].wait(GIVE_UP_SECONDS):
            raise TimeoutError("the test never opened the gate")
        self.compiled.append((grammar, None if adapter is None else adapter.digest))
        return listed(grammar)


def listed(grammar: str) -> ListedMatcher:
    """Return the matcher of a grammar at its beginning.

    Raises:
        GrammarError: the grammar is not such a list.
    """
    try:
        return ListedMatcher([[int(token) for token in place.split(",") if token] for place in grammar.split("|")])
    except ValueError as error:
        raise GrammarError(f"faulty: {error}") from error
