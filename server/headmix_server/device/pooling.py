"""Pooling of classification and embedding inputs over the chunks in which they are computed.

Keeps one running vector per sequence; the engine reports when a sequence has ended.
"""

from typing import Literal

from torch import Tensor


class PooledStates:
    """The pooled states of the sequences in progress."""

    def __init__(self) -> None:
        self._sums: dict[int, Tensor] = {}

    def add(
        self,
        sequence_id: int,
        states: Tensor,
        pooling: Literal["last", "cls", "mean"],
        *,
        first: bool,
        last: int | None = -1,
    ) -> None:
        """Add the final hidden states [rows, D] of a sequence's next chunk; `first` marks its first chunk.

        `last` is the row that pooling `last` would read if the text ended here; None if it would skip all of them.
        """
        match pooling:
            case "last":
                if last is not None or first:
                    self._sums[sequence_id] = states[last or 0].clone()
            case "cls":
                if first:
                    self._sums[sequence_id] = states[0].clone()
            case "mean":
                before = 0 if first else self._sums[sequence_id]
                self._sums[sequence_id] = states.sum(dim=0) + before

    def take(self, sequence_id: int, pooling: Literal["last", "cls", "mean"], length: int) -> Tensor:
        """Return the pooled vector [D] of a whole sequence of `length` tokens, and drop its state."""
        state = self._sums.pop(sequence_id)
        return state / length if pooling == "mean" else state

    def release(self, sequence_id: int) -> None:
        """Drop a sequence's state; does nothing if it is unknown."""
        self._sums.pop(sequence_id, None)

    def __len__(self) -> int:
        return len(self._sums)
