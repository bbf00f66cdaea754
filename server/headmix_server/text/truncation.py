"""A text's tokens cut to a length: the special tokens that the base puts around the text stay, as in transformers."""

from collections.abc import Sequence
from dataclasses import dataclass


class NothingLeftError(ValueError):
    """The special tokens around a text take all the length that is allowed."""


@dataclass(frozen=True, slots=True)
class Truncation:
    """At most `length` tokens stay of a text: its last ones, or with `keeps_first` its first ones."""

    length: int
    keeps_first: bool = False

    def cut(self, ids: Sequence[int], around: tuple[int, int] = (0, 0)) -> Sequence[int]:
        """Return what stays of a text's tokens, of which `around` are the base's, before and behind it.

        Raises:
            NothingLeftError: of a text that is too long, no token would stay.
        """
        if len(ids) <= self.length:
            return ids
        before, behind = around
        end = len(ids) - behind
        room = self.length - before - behind
        if room <= 0:
            raise NothingLeftError
        if not (before or behind):
            return ids[:room] if self.keeps_first else ids[-room:]
        kept = ids[before : before + room] if self.keeps_first else ids[end - room : end]
        return [*ids[:before], *kept, *ids[end:]]
