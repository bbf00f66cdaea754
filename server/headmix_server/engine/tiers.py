"""Where adapters are: device slots, host memory, disk; and moving them up when a sequence wants one.

Joins slot accounting, the host cache and the background loader over a runner. It decides nothing about sequences.
"""

import time
from collections import Counter
from dataclasses import dataclass, field

from headmix_server.core.messages import LoadReport, ResidentAdapter
from headmix_server.core.types import AdapterRef, Residency
from headmix_server.engine.host_cache import HostCache
from headmix_server.engine.loader import AdapterLoader
from headmix_server.engine.runner import AdapterLoadError, HostAdapter, Lease, Runner
from headmix_server.engine.slots import SlotState, SlotTable


@dataclass(slots=True)
class TierCounts:
    """What happened since the counts were last taken, by tier."""

    hits: Counter[str] = field(default_factory=Counter)
    misses: Counter[str] = field(default_factory=Counter)
    evictions: Counter[str] = field(default_factory=Counter)
    loads: list[LoadReport] = field(default_factory=list)


class AdapterTiers:
    """Device, host and disk as one: `try_acquire` either leases an adapter at once or sees to it that it comes."""

    def __init__(self, runner: Runner, num_slots: int, host_capacity: int, loader_threads: int) -> None:
        self.slots = SlotTable(num_slots)
        self.host = HostCache(host_capacity)
        self._runner = runner
        self._loader = AdapterLoader(runner.load, loader_threads)
        self._generations: dict[str, tuple[int, int]] = {}  # adapters that load: slot and generation reserved for them
        self._forgotten: set[str] = set()
        self._counts = TierCounts()
        self._changed = True

    @property
    def loading(self) -> bool:
        """Whether any adapter is on its way from disk."""
        return self._loader.busy

    def try_acquire(self, ref: AdapterRef, *, first_try: bool) -> Lease | None:
        """Lease the adapter if it is on the device; otherwise begin to bring it there, if a slot can be had."""
        self._forgotten.discard(ref.digest)
        if first_try:
            self._count_lookup(ref.digest)
        if self.slots.state(ref.digest) is not SlotState.READY:
            self._bring(ref)
        return self.slots.acquire(ref.digest) if self.slots.state(ref.digest) is SlotState.READY else None

    def prefetch(self, ref: AdapterRef) -> bool:
        """Begin to bring the adapter to the device, if a slot can be had; true once it is there."""
        self._forgotten.discard(ref.digest)
        self._bring(ref)
        return self.slots.state(ref.digest) is SlotState.READY

    def _count_lookup(self, digest: str) -> None:
        if self.slots.state(digest) is SlotState.READY:
            self._counts.hits[Residency.DEVICE] += 1
            return
        self._counts.misses[Residency.DEVICE] += 1
        found = self._counts.hits if digest in self.host.digests() else self._counts.misses
        found[Residency.HOST] += 1

    def _bring(self, ref: AdapterRef) -> None:
        if self.slots.state(ref.digest) is not SlotState.FREE or not self.slots.can_reserve():
            return
        slot, generation, evicted = self.slots.reserve(ref.digest)
        if evicted is not None:
            self._counts.evictions[Residency.DEVICE] += 1
            self._runner.clear(slot)
        self._generations[ref.digest] = (slot, generation)
        if (adapter := self.host.get(ref.digest)) is not None:
            began = time.monotonic()
            self._install(adapter)
            self._counts.loads.append(LoadReport(source=Residency.HOST, seconds=time.monotonic() - began))
        else:
            self._loader.start(ref)

    def _install(self, adapter: HostAdapter) -> None:
        slot, generation = self._generations.pop(adapter.digest)
        self._runner.install(slot, generation, adapter)
        self.slots.make_ready(adapter.digest)
        self._changed = True

    def settle(self) -> list[tuple[str, AdapterLoadError]]:
        """Install every adapter that has arrived; returns those that could not be loaded, their slots free again."""
        failures = []
        for done in self._loader.poll():
            if isinstance(done.outcome, AdapterLoadError):
                self._abandon(done.ref.digest)
                failures.append((done.ref.digest, done.outcome))
                continue
            try:
                self._install(done.outcome)
            except AdapterLoadError as error:  # it does not fit the device
                self._abandon(done.ref.digest)
                failures.append((done.ref.digest, error))
                continue
            self._counts.evictions[Residency.HOST] += len(self.host.put(done.outcome))
            self._counts.loads.append(LoadReport(source=Residency.DISK, seconds=done.seconds))
        return failures

    def _abandon(self, digest: str) -> None:
        self._generations.pop(digest, None)
        self.slots.vacate(digest)

    def release(self, lease: Lease) -> None:
        """Return a lease."""
        self.slots.release(lease)

    def forget(self, digest: str) -> None:
        """Mark an adapter nobody can name any more; `sweep` drops it once nothing needs it."""
        self._forgotten.add(digest)

    def sweep(self, needed: set[str]) -> None:
        """Drop forgotten adapters that no sequence needs and that are not on their way."""
        for digest in self._forgotten - needed:
            state = self.slots.state(digest)
            if state is SlotState.LOADING:
                continue
            if state is SlotState.READY:
                self._runner.clear(self.slots.vacate(digest))
            self.host.forget(digest)
            self._forgotten.discard(digest)
            self._changed = True

    def take_counts(self) -> TierCounts:
        """Return what happened since the last call."""
        counts, self._counts = self._counts, TierCounts()
        return counts

    def take_residents(self) -> list[ResidentAdapter] | None:
        """Return every resident adapter with its fastest tier, or None where nothing changed since the last call."""
        if not self._changed:
            return None
        self._changed = False
        on_device = self.slots.ready_digests()
        in_host = [digest for digest in self.host.digests() if digest not in set(on_device)]
        return [
            *(ResidentAdapter(digest=digest, tier=Residency.DEVICE) for digest in on_device),
            *(ResidentAdapter(digest=digest, tier=Residency.HOST) for digest in in_host),
        ]

    def close(self) -> None:
        """Stop the loader."""
        self._loader.close()
