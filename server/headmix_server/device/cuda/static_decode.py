"""Decode steps by replaying static ones: which captured shape a batch fits, captured when first needed.

A shape is a number of rows, a longest context and the set of adapter kernels that run. It does not include the adapters
themselves, so a shape captured once works with adapters installed later. Steps that prefill or feed added tokens are
not handled here, nor steps with a row of several adapters or of a scaled one.
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

FEWEST_POSITIONS = 512
"""Positions of the shortest context that a step is captured for."""

GROWTH = 4
"""Ratio of each context length to the next shorter one."""

_NONE = Launches.of([])
_ATTENTION = Launches(qkv=True, o=True, gate_up=False, down=False)
_ALL = Launches.every()


class StaticDecode:
    """Every captured step of one runner; `longest` is the maximum number of cache blocks of a sequence."""

    def __init__(
        self,
        storage: FixedStorage,
        block_size: int,
        longest: int,
        make_step: Callable[[StepShape], StaticStep],
        make_replay: Callable[[StaticStep], Replay],
    ) -> None:
        self._storage = storage
        self._longest = longest
        self._contexts = _contexts(-(-FEWEST_POSITIONS // block_size), longest)
        self._make_step = make_step
        self._make_replay = make_replay
        self._told: set[str] = set()
        self._ready: dict[StepShape, tuple[StaticStep, Replay]] = {}

    def forward(self, rows: Sequence[DecodeRow]) -> Tensor | None:
        """Return the final hidden states [rows, D], or None if no captured step can hold such a batch."""
        if len(rows) > BUCKETS[-1]:
            self._tell_uncaptured("more rows than a captured step has", rows=len(rows))
            return None
        if not all(row.is_plain for row in rows):
            self._tell_uncaptured("a row has several adapters, or a scaled one")
            return None
        slots = {row.slot for row in rows if row.slot is not None}
        longest = max(len(row.blocks) for row in rows)
        shape = StepShape(
            rows=next(bucket for bucket in BUCKETS if bucket >= len(rows)),
            blocks=next((size for size in self._contexts if size >= longest), self._longest),
            launches=_superset(self._storage.launches(slots)),
        )
        self._storage.await_slots(slots)
        return self._prepare(shape, rows).run()[: len(rows)]

    def warm_up(self, most_rows: int) -> None:
        """Capture in advance what batches of up to `most_rows` rows need, so that no request waits for a capture.

        Of the steps with adapters in the MLP only the smallest is captured, to compile their kernels. The others are
        captured when first needed.
        """
        fits = next((at for at, bucket in enumerate(BUCKETS) if bucket >= most_rows), len(BUCKETS))
        for rows in reversed(BUCKETS[: fits + 1]):  # smaller graphs then fit into the memory of the larger ones
            for blocks in self._contexts:
                for launches in (_NONE, _ATTENTION):
                    self._prepare(StepShape(rows, blocks, launches), [])
        self._prepare(StepShape(BUCKETS[0], self._contexts[0], _ALL), [])

    def _prepare(self, shape: StepShape, rows: Sequence[DecodeRow]) -> Replay:
        """Return the replay of a shape's step, with a batch written into its buffers."""
        if shape in self._ready:
            step, replay = self._ready[shape]
            step.fill(rows)
        else:
            step = self._make_step(shape)
            step.fill(rows)  # a capture computes, so it needs a batch; padding is enough
            replay = self._make_replay(step)
            self._ready[shape] = (step, replay)
        return replay

    def _tell_uncaptured(self, reason: str, **sizes: int) -> None:
        """Log that a step runs operation by operation, once per reason rather than at every step."""
        if reason not in self._told:
            self._told.add(reason)
            get_logger("device").info("a decode step runs without a captured graph", reason=reason, **sizes)

    @property
    def num_ready(self) -> int:
        """Number of captured shapes."""
        return len(self._ready)


def _contexts(fewest: int, longest: int) -> tuple[int, ...]:
    """Return the context lengths that steps are captured for, in blocks, shortest first."""
    sizes = [fewest]
    while sizes[-1] < longest:
        sizes.append(sizes[-1] * GROWTH)
    return tuple(min(size, longest) for size in sizes)


def _superset(needed: Launches) -> Launches:
    """Return one of three choices that covers what is needed, so that few steps are captured."""
    if needed == _NONE:
        return needed
    return _ALL if needed.gate_up or needed.down else _ATTENTION
