"""A fake runner that also keeps a cache: it detects a row whose cache does not hold what its sequence needs.

The fake runner's answers do not depend on the cache, so they would not show a wrong block; here it is a named fault.
"""

from headmix_server.core.runner import Batch, BatchRow, RowFailed, RowResult
from headmix_server.engine.fake_runner import FakeRunner

NOTHING = 0


class WitnessRunner(FakeRunner):
    """Writes what each row computes to the positions of its blocks, then reads everything the row attends to.

    A step or row that fails leaves garbage where it would have written. `block_size` is the engine's.
    """

    block_size = 0

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]  # passed on unchanged
        self.faults: list[str] = []
        self.num_computed = 0
        self._memory: dict[int, int] = {}

    def run(self, batch: Batch) -> list[RowResult]:
        """See `Runner.run`."""
        try:
            results = super().run(batch)
        except BaseException:
            for row in batch.rows:
                self._spoil(row)
            raise
        sound = [row for row, r in zip(batch.rows, results, strict=True) if not isinstance(r.result, RowFailed)]
        for row in batch.rows:
            if row in sound:
                self.num_computed += row.count
                self._memory |= dict(list(self._expected(row).items())[row.start :])
            else:
                self._spoil(row)
        for row in sound:
            self.faults += [
                f"sequence {row.sequence_id} at {row.start} reads a stranger's position {position}"
                for position, (place, content) in enumerate(self._expected(row).items())
                if self._memory.get(place, NOTHING) != content
            ]
        return results

    def _spoil(self, row: BatchRow) -> None:
        self._memory |= dict.fromkeys(list(self._expected(row))[row.start :], NOTHING)

    def _expected(self, row: BatchRow) -> dict[int, int]:
        """Return what each place must hold for this row, by position: a hash of the adapters and all tokens so far."""
        content, places = hash(row.combination), dict[int, int]()
        for position, token in enumerate([*row.history, *row.drafts][: row.end]):
            content = hash((content, token)) or 1
            places[row.blocks[position // self.block_size] * self.block_size + position % self.block_size] = content
        return places
