"""Decode steps by replaying static ones: which of the captured shapes a batch fits, made when first needed.

A shape is a number of rows, a longest context and which adapters' kernels run; never which adapters, so a shape that
was captured once serves whatever is installed later. Steps that prefill or feed added tokens are not for this.
"""

from collections.abc import Callable, Sequence

from torch import Tensor

from headmix_server.core.observability.logging import get_logger
from headmix_server.device.cuda.fixed_storage import FixedStorage
from headmix_server.device.cuda.graph_replay import Replay
from headmix_server.device.cuda.static_step import DecodeRow, StaticStep, StepShape
from headmix_server.kernels.triton.needs import Launches

BUCKETS = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256)
"""Rows of the captured steps; a batch runs in the smallest that holds it."""

FEWEST_POSITIONS = 256
"""Of the shortest context a step is captured for; others are twice as long as the one before."""

_ATTENTION = Launches(qkv=True, o=True, gate_up=False, down=False)
_ALL = Launches(qkv=True, o=True, gate_up=True, down=True)


class StaticDecode:
    """Every captured step of one runner; `longest` are the most cache blocks a sequence can have."""

    def __init__(
        self,
        storage: FixedStorage,
        block_size: int,
        longest: int,
        make_step: Callable[[StepShape], StaticStep],
        make_replay: Callable[[StaticStep], Replay],
    ) -> None:
        self._storage = storage
        self._fewest = -(-FEWEST_POSITIONS // block_size)
        self._longest = longest
        self._make_step = make_step
        self._make_replay = make_replay
        self._told: set[str] = set()
        self._ready: dict[StepShape, tuple[StaticStep, Replay]] = {}

    def forward(self, rows: Sequence[DecodeRow]) -> Tensor | None:
        """Return the final hidden states [rows, D], or None where no captured step is for such a batch."""
        if len(rows) > BUCKETS[-1]:
            self._tell_uncaptured("more rows than a captured step has", rows=len(rows))
            return None
        slots = {row.slot for row in rows if row.slot is not None}
        shape = StepShape(
            rows=next(bucket for bucket in BUCKETS if bucket >= len(rows)),
            blocks=self._context(max(len(row.blocks) for row in rows)),
            launches=_superset(self._storage.launches(slots)),
        )
        self._storage.await_slots(slots)
        if shape in self._ready:
            step, replay = self._ready[shape]
            step.fill(rows)
        else:
            step = self._make_step(shape)
            step.fill(rows)  # a capture computes, so it needs a batch
            replay = self._make_replay(step)
            self._ready[shape] = (step, replay)
        return replay.run()[: len(rows)]

    def _tell_uncaptured(self, reason: str, **sizes: int) -> None:
        """Log that steps run operation by operation; once for each reason, not at every step."""
        if reason not in self._told:
            self._told.add(reason)
            get_logger("device").info("a decode step runs without a captured graph", reason=reason, **sizes)

    @property
    def num_ready(self) -> int:
        """How many shapes have been captured."""
        return len(self._ready)

    def _context(self, blocks: int) -> int:
        size = self._fewest
        while size < blocks:
            size *= 2
        return min(size, self._longest)


def _superset(needed: Launches) -> Launches:
    """Return one of three choices that covers what is needed, so that few steps are captured."""
    if needed == Launches.of([]):
        return needed
    return _ALL if needed.gate_up or needed.down else _ATTENTION
