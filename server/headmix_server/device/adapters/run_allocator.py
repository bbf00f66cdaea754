"""Allocation in a memory of numbered units: contiguous runs, first fit. Owns no memory."""

from collections.abc import Iterable


class RunAllocator:
    """Allocates runs of units; the first `reserved` units are never allocated."""

    def __init__(self, reserved: int = 0) -> None:
        self.capacity = reserved
        self._free: list[tuple[int, int]] = []  # (first unit, units), ascending, never adjacent

    def allocate(self, units: int) -> int | None:
        """Return the first unit of a newly allocated run, or None if no free run is long enough."""
        for index, (first, length) in enumerate(self._free):
            if length >= units:
                self._free[index : index + 1] = [(first + units, length - units)] if length > units else []
                return first
        return None

    def has_run(self, units: int, released: Iterable[tuple[int, int]] = ()) -> bool:
        """Return whether `allocate` would find a run if these (first unit, units) were released too."""
        return any(length >= units for _, length in _joined([*self._free, *released]))

    @property
    def free_runs(self) -> list[tuple[int, int]]:
        """The free runs as (first unit, units), ascending."""
        return list(self._free)

    def grow(self, units: int) -> None:
        """Add units at the end."""
        self.capacity += units
        self.release(self.capacity - units, units)

    def release(self, first: int, units: int) -> None:
        """Release a run and join it with its free neighbours."""
        self._free = _joined([*self._free, (first, units)])

    @property
    def num_free(self) -> int:
        """Number of units that nobody holds."""
        return sum(length for _, length in self._free)

    @property
    def free_at_end(self) -> int:
        """Length of the free run at the end of the memory, which growing need not add."""
        return self._free[-1][1] if self._free and sum(self._free[-1]) == self.capacity else 0


def _joined(runs: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the runs in ascending order, with adjacent ones joined."""
    joined: list[tuple[int, int]] = []
    for start, length in sorted(runs):
        if joined and sum(joined[-1]) == start:
            joined[-1] = (joined[-1][0], joined[-1][1] + length)
        else:
            joined.append((start, length))
    return joined
