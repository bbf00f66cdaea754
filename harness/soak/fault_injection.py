"""A runner with faults on demand: failing steps, failing loads, loads that never finish."""

import threading
from typing import cast

from harness.soak.tracked_request import DAMAGED
from headmix_server.core.runner import AdapterLoadError, Batch, HostAdapter, RowResult, Runner
from headmix_server.core.types import AdapterRef

PATIENCE_SECONDS = 30.0


class FaultInjectingRunner:
    """Passes everything on to a runner, except what the walk makes fail."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._lock = threading.Lock()
        self._disk = threading.Event()
        self._disk.set()
        self._damaged: set[str] = set()
        self._break_next = False
        self._broke_last = False
        self._broken: tuple[int, ...] = ()

    def __getattr__(self, name: str) -> object:
        return getattr(self._runner, name)

    @property
    def as_runner(self) -> Runner:
        """Return this object as the type the engine takes; it has everything a runner has."""
        return cast("Runner", self)

    def break_a_step(self) -> None:
        """Make the next step fail, unless the previous one did: three in a row would end the engine."""
        self._break_next = not self._broke_last

    def take_broken(self) -> tuple[int, ...]:
        """Return the sequences in the steps broken since the last call."""
        broken, self._broken = self._broken, ()
        return broken

    def damage(self, digest: str) -> None:
        """Make the next load of an artifact fail."""
        with self._lock:
            self._damaged.add(digest)

    def clear_faults(self) -> None:
        """Make everything succeed from now on."""
        self._break_next = False
        self._disk.set()
        with self._lock:
            self._damaged.clear()

    def stop_disk(self) -> None:
        """Keep loads from finishing."""
        self._disk.clear()

    def start_disk(self) -> None:
        """Let loads finish again."""
        self._disk.set()

    @property
    def disk_runs(self) -> bool:
        """Whether loads finish."""
        return self._disk.is_set()

    def load(self, ref: AdapterRef) -> HostAdapter:
        """Load once the disk is running, unless the artifact is damaged."""
        if not self._disk.wait(PATIENCE_SECONDS):
            raise AdapterLoadError("the walk never started the disk again")
        with self._lock:
            if ref.digest in self._damaged:
                self._damaged.discard(ref.digest)
                raise AdapterLoadError(DAMAGED)
        return self._runner.load(ref)

    def run(self, batch: Batch) -> list[RowResult]:
        """Compute a step, unless it is to fail."""
        self._broke_last, self._break_next = self._break_next, False
        if self._broke_last:
            self._broken = tuple(row.sequence_id for row in batch.rows)
            raise RuntimeError("broken by the walk")
        return self._runner.run(batch)
