"""Where adapters are: device slots, host memory, disk; and moving them up when a sequence wants one.

Joins slot accounting, the host cache and the background loader over a runner. It decides nothing about sequences.
An adapter on its way from disk holds no slot: a slot is taken only when the tensors are here to fill it, so a slow
disk never keeps a slot from an adapter that could use it.
"""

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from headmix_server.core.messages import LoadReport, ResidentAdapter
from headmix_server.core.runner import AdapterLoadError, HostAdapter, Lease, Runner
from headmix_server.core.types import AdapterRef, Residency
from headmix_server.engine.host_cache import HostCache
from headmix_server.engine.loader import AdapterLoader
from headmix_server.engine.slots import SlotTable


@dataclass(slots=True)
class TierCounts:
    """What happened since the counts were last taken, by tier."""

    hits: Counter[str] = field(default_factory=Counter)
    misses: Counter[str] = field(default_factory=Counter)
    evictions: Counter[str] = field(default_factory=Counter)
    loads: list[LoadReport] = field(default_factory=list)


class AdapterTiers:
    """Device, host and disk as one: `fetch` brings an adapter to host memory, `prepare` to a slot, `acquire` leases it.

    `_arrived` keeps what came from disk for those who wait until it has a slot, whatever the host cache drops; loads
    under way and arrivals together are bounded by `_max_ahead`.
    """

    def __init__(self, runner: Runner, num_slots: int, host_capacity: int, loader_threads: int) -> None:
        self.slots = SlotTable(num_slots)
        self.host = HostCache(host_capacity)
        self._runner = runner
        self._loader = AdapterLoader(runner.load, loader_threads)
        self._max_ahead = num_slots + loader_threads
        self._arrived: dict[str, HostAdapter] = {}
        self._failures: dict[str, AdapterLoadError] = {}
        self._forgotten: set[str] = set()
        self._wanted: Mapping[str, int] = {}
        self._counts = TierCounts()
        self._changed = True

    @property
    def num_loading(self) -> int:
        """How many adapters are on their way from disk."""
        return self._loader.num_pending

    @property
    def busy(self) -> bool:
        """Whether a step has something to do here: a load under way, a failure to tell, an adapter to forget."""
        return bool(self._loader.num_pending or self._failures or self._forgotten)

    # --- up ------------------------------------------------------------------------------------------------------

    def want(self, digests: Iterable[str]) -> None:
        """Say what queued requests want, the first in the queue first: it is the last to be evicted from any tier."""
        self._wanted = {digest: place for place, digest in enumerate(dict.fromkeys(digests))}

    def count_lookup(self, digest: str) -> None:
        """Count where a new request finds its adapter."""
        if self.slots.holds(digest):
            self._counts.hits[Residency.DEVICE] += 1
            return
        self._counts.misses[Residency.DEVICE] += 1
        (self._counts.hits if digest in self.host else self._counts.misses)[Residency.HOST] += 1

    def fetch(self, ref: AdapterRef) -> None:
        """See to it that the adapter comes to host memory, unless it is there, on the device, or too much is ahead."""
        here = self.slots.holds(ref.digest) or self._in_host(ref.digest) or ref.digest in self._failures
        if not here and self._loader.num_pending + len(self._arrived) < self._max_ahead:
            self._loader.start(ref)

    def prepare(self, ref: AdapterRef) -> bool:
        """Bring the adapter to a slot if its tensors are here and a slot can be had; true once it is on the device."""
        if self.slots.holds(ref.digest):
            return True
        self.fetch(ref)
        if not self._in_host(ref.digest) or not self.slots.can_place():
            return False
        if (adapter := self._arrived.get(ref.digest)) is not None:
            return self._install(adapter)
        adapter = self.host.get(ref.digest)
        began = time.monotonic()
        installed = adapter is not None and self._install(adapter)
        if installed:
            self._counts.loads.append(LoadReport(source=Residency.HOST, seconds=time.monotonic() - began))
        return installed

    def waits_for_slot(self, digest: str) -> bool:
        """Tell whether nothing but a slot is missing."""
        return self._in_host(digest) and not self.slots.holds(digest) and not self.slots.can_place()

    def _in_host(self, digest: str) -> bool:
        return digest in self._arrived or digest in self.host

    def _install(self, adapter: HostAdapter) -> bool:
        placement = self.slots.place(adapter.digest, self._wanted)
        if placement.evicted is not None:
            self._counts.evictions[Residency.DEVICE] += 1
            self._runner.clear(placement.slot)
        self._arrived.pop(adapter.digest, None)
        self._changed = True
        try:
            self._runner.install(placement.slot, placement.generation, adapter)
        except AdapterLoadError as error:
            self._refuse(adapter.digest, error)
            return False
        except Exception as error:  # noqa: BLE001 - one adapter the device chokes on must not end everybody's engine
            self._refuse(adapter.digest, AdapterLoadError(f"{type(error).__name__}: {error}"))
            return False
        return True

    def _refuse(self, digest: str, error: AdapterLoadError) -> None:
        self.slots.vacate(digest)
        self.host.forget(digest)
        self._failures[digest] = error

    def settle(self) -> Mapping[str, AdapterLoadError]:
        """Take in what has come from disk; returns, by digest, what could not be loaded or installed."""
        for done in self._loader.poll():
            if isinstance(done.outcome, AdapterLoadError):
                self._failures[done.ref.digest] = done.outcome
                continue
            self._arrived[done.ref.digest] = done.outcome
            self._counts.evictions[Residency.HOST] += len(self.host.put(done.outcome, self._wanted))
            self._counts.loads.append(LoadReport(source=Residency.DISK, seconds=done.seconds))
            self._changed = True
        failures, self._failures = self._failures, {}
        return failures

    # --- leases --------------------------------------------------------------------------------------------------

    def acquire(self, digest: str) -> Lease:
        """Lease an adapter `prepare` said is on the device."""
        return self.slots.acquire(digest)

    def release(self, lease: Lease) -> None:
        """Return a lease."""
        self.slots.release(lease)

    # --- down ----------------------------------------------------------------------------------------------------

    def forget(self, digest: str) -> None:
        """Mark an adapter nobody can name any more; `sweep` drops it once nothing needs it."""
        self._forgotten.add(digest)

    def remember(self, digest: str) -> None:
        """Somebody names the adapter (again): call off `forget`, and let host memory keep it as one just used.

        Otherwise host memory would drop first what has been longest on the device, the most popular of all.
        """
        self._forgotten.discard(digest)
        self.host.get(digest)

    def sweep(self, needed: set[str]) -> list[str]:
        """Drop arrivals that nobody waits for any more, and forgotten adapters that nothing needs; returns these."""
        dropped = []
        for digest in self._arrived.keys() - needed:
            del self._arrived[digest]
        for digest in self._forgotten - needed:
            if self._loader.is_pending(digest):
                continue
            if self.slots.holds(digest):
                self._runner.clear(self.slots.vacate(digest))
            self.host.forget(digest)
            self._forgotten.discard(digest)
            self._changed = True
            dropped.append(digest)
        return dropped

    @property
    def wants_sweep(self) -> bool:
        """Whether `sweep` might find anything."""
        return bool(self._arrived or self._forgotten)

    # --- reports -------------------------------------------------------------------------------------------------

    def take_counts(self) -> TierCounts:
        """Return what happened since the last call."""
        counts, self._counts = self._counts, TierCounts()
        return counts

    def take_residents(self) -> list[ResidentAdapter] | None:
        """Return every resident adapter with its fastest tier, or None where nothing changed since the last call."""
        if not self._changed:
            return None
        self._changed = False
        on_device = self.slots.digests()
        in_host = dict.fromkeys([*self.host.digests(), *self._arrived]).keys() - set(on_device)
        return [
            *(ResidentAdapter(digest=digest, tier=Residency.DEVICE) for digest in on_device),
            *(ResidentAdapter(digest=digest, tier=Residency.HOST) for digest in sorted(in_host)),
        ]

    def close(self) -> None:
        """Stop the loader."""
        self._loader.close()
