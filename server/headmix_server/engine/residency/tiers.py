"""Where adapters are (device slots, host memory, disk), and moving them up when a sequence wants one.

Combines slot accounting, the host cache and the background loader over a runner. It decides nothing about sequences; it
knows which tenant an adapter is moved for, and gives each tenant its share of every tier (`tenant_shares`) and of the
loads ahead. An adapter being loaded from disk holds no slot: a slot is taken only once the tensors to fill it are in
memory, so a slow disk never keeps a slot from an adapter that could use it.
"""

import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence, Set
from dataclasses import dataclass, field
from math import inf

from headmix_server.core.errors import AdapterTooLarge, ServerOverloaded
from headmix_server.core.messages import LoadReport, ResidentAdapter
from headmix_server.core.runner import AdapterLoadError, HostAdapter, Runner
from headmix_server.core.settings.names import called
from headmix_server.core.types import AdapterRef, Residency
from headmix_server.engine.config import UNBOUNDED
from headmix_server.engine.residency.host_cache import HostCache
from headmix_server.engine.residency.loader import AdapterLoader
from headmix_server.engine.residency.loads_ahead import LoadsAhead
from headmix_server.engine.residency.recent_tenants import RecentTenants
from headmix_server.engine.residency.slots import LeaseError, SlotTable
from headmix_server.engine.residency.tenant_shares import TenantShares

NARROWEST = 4
"""How many times wider a file's numbers may be than those computed with: float64 and bfloat16."""


@dataclass(slots=True)
class TierCounts:
    """What happened since the counts were last taken, by tier."""

    hits: Counter[str] = field(default_factory=Counter)
    misses: Counter[str] = field(default_factory=Counter)
    evictions: Counter[str] = field(default_factory=Counter)
    loads: list[LoadReport] = field(default_factory=list)


class AdapterTiers:
    """Device, host and disk as one: `load` loads an adapter into host memory, `install` into a slot; `slots` leases it.

    The host cache gets what the loads ahead leave of host memory.
    """

    def __init__(
        self,
        runner: Runner,
        num_slots: int,
        host_capacity: int,
        loader_threads: int,
        *,
        device_bytes: int = UNBOUNDED,
        host_bytes: int = UNBOUNDED,
        weight_of: Callable[[str], float] = lambda _: 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._recent = RecentTenants(clock)
        ahead, slots, host = (TenantShares(weight_of, self._recent.tenants) for _ in range(3))
        self.slots = SlotTable(num_slots, slots, device_bytes, runner.fits)
        self.host = HostCache(host_capacity, host, host_bytes)
        self.host_budget = host_bytes
        self._runner = runner
        self._loader = AdapterLoader(runner.load, loader_threads)
        self._ahead = LoadsAhead(ahead, num_slots + loader_threads, host_bytes)
        self._failures: dict[str, AdapterLoadError] = {}
        self._forgotten: set[str] = set()
        self._wanted: Callable[[], Mapping[str, int]] = dict
        self._counts = TierCounts()
        self._told: list[ResidentAdapter] | None = None  # the residents that were last reported

    @property
    def num_loading(self) -> int:
        """Number of adapters being loaded from disk."""
        return self._loader.num_pending

    @property
    def loading(self) -> Set[str]:
        """The adapters being loaded from disk."""
        return self._loader.pending

    @property
    def busy(self) -> bool:
        """Whether a step has work here: a load in progress, a failure to report, an adapter to forget."""
        return bool(self._loader.num_pending or self._failures or self._forgotten)

    # --- up ------------------------------------------------------------------------------------------------------

    def want(self, wanted: Callable[[], Mapping[str, int]]) -> None:
        """Set the source of the adapters that queued requests want, each with its position: the first leaves last."""
        self._wanted = wanted

    def mark_seen(self, tenant: str) -> None:
        """Mark a tenant as seen: for a while it counts as present, and what it holds as its own."""
        self._recent.mark_seen(tenant)

    @property
    def present(self) -> Collection[str]:
        """The tenants that count as present."""
        return self._recent.tenants()

    def count_lookup(self, digest: str) -> None:
        """Count in which tier a new request finds its adapter."""
        if self.slots.holds(digest):
            self._counts.hits[Residency.DEVICE] += 1
            return
        self._counts.misses[Residency.DEVICE] += 1
        (self._counts.hits if digest in self.host else self._counts.misses)[Residency.HOST] += 1

    def load(self, ref: AdapterRef, tenant: str) -> None:
        """Load the adapter into host memory, unless it is there or on the device, or too much is being loaded."""
        if not self.slots.holds(ref.digest) and not self._in_host(ref.digest):
            self._start_load(ref, tenant)

    def load_first(self, refs: Sequence[AdapterRef], tenant: str) -> None:
        """Load adapters that are needed at the same time before all others.

        What was loaded ahead for others leaves if it takes the memory: it may be waiting for the very slots that the
        first of these adapters are kept in.
        """
        needed = [ref.digest for ref in refs]
        for ref in refs:
            if self.slots.holds(ref.digest) or self._in_host(ref.digest) or not self._may_be_loaded(ref):
                continue
            if self._ahead.may_start_first(ref) or self._make_room_ahead(ref, needed):
                self._begin_load(ref, tenant)

    def _make_room_ahead(self, ref: AdapterRef, needed: Collection[str]) -> bool:
        """Drop arrivals, those wanted last first, until an adapter may be loaded; return whether it may.

        None is dropped if all of them would not be enough.
        """
        wanted = self._wanted()
        arrivals = self._ahead.in_the_way_of(ref, needed)
        for digest in sorted(arrivals, key=lambda digest: wanted.get(digest, inf), reverse=True):
            self._drop_arrival(digest)
            if self._ahead.may_start_first(ref):
                return True
        return False

    def _start_load(self, ref: AdapterRef, tenant: str) -> None:
        if self._may_be_loaded(ref) and self._ahead.may_start(ref, tenant):
            self._begin_load(ref, tenant)

    def _may_be_loaded(self, ref: AdapterRef) -> bool:
        digest = ref.digest
        return not (self._loader.is_pending(digest) or digest in self._failures or self._is_refused(ref))

    def _begin_load(self, ref: AdapterRef, tenant: str) -> None:
        self._ahead.start(ref, tenant)
        self._trim_host()
        self._loader.start(ref, tenant)

    def _is_refused(self, ref: AdapterRef) -> bool:
        """Refuse, before reading it, a file whose numbers no tier can hold even in the narrowest type."""
        least = ref.size_bytes // NARROWEST
        error = self._too_large(least, least)
        if error is not None:
            self._failures[ref.digest] = error
        return error is not None

    @property
    def host_bytes(self) -> int:
        """Host memory that adapters take: those kept, those that have arrived, and those in progress."""
        apart = (size for digest, size in self._ahead.sizes().items() if digest not in self.host)
        return self.host.used_bytes + sum(apart)

    def _trim_host(self) -> None:
        """Limit the host cache to what the loads ahead leave."""
        excess = self.host_bytes - self.host_budget
        if excess > 0:
            self._counts.evictions[Residency.HOST] += len(self.host.trim(excess, self._ahead.arrived, self._wanted()))

    def install(self, ref: AdapterRef, tenant: str) -> bool:
        """Install the adapter in a slot if its tensors are loaded and the tenant may have one; True once installed."""
        if self.slots.holds(ref.digest):
            return True
        if not self._in_host(ref.digest):
            self._start_load(ref, tenant)
            return False
        adapter = self._loaded(ref.digest)
        if adapter is None:
            return False
        if not self.slots.can_place(adapter, tenant):
            self._refuse_beside_pins(adapter)
            return False
        if ref.digest in self._ahead.arrived:
            return self._install_in_slot(adapter, tenant)
        self.host.get(ref.digest)
        began = time.monotonic()
        installed = self._install_in_slot(adapter, tenant)
        if installed:
            self._counts.loads.append(LoadReport(source=Residency.HOST, seconds=time.monotonic() - began))
        return installed

    def install_together(self, refs: Sequence[AdapterRef], tenant: str) -> bool:
        """Install adapters that are needed at the same time, none at another's expense; True once all are installed."""
        with self.slots.keeping(ref.digest for ref in refs):
            installed = [self.install(ref, tenant) for ref in refs]  # each is tried, so that all of them are loaded
            return all(installed)

    def can_never_join(self, digest: str, others: Collection[str]) -> bool:
        """Return whether a loaded adapter has no room on the device next to the pinned ones and these others."""
        adapter = self._loaded(digest)
        return adapter is not None and not self.slots.could_ever_place(adapter, others)

    def waits_for_slot(self, digest: str, tenant: str) -> bool:
        """Return whether only room on the device is missing."""
        adapter = self._loaded(digest)
        return adapter is not None and not self.slots.holds(digest) and not self.slots.can_place(adapter, tenant)

    def to_keep_free(self, digest: str, tenant: str, passed_over: Collection[str]) -> tuple[str, ...] | None:
        """Return what newcomers must not use so that an adapter in host memory gets room; see `SlotTable`."""
        adapter = self._loaded(digest)
        return () if adapter is None else self.slots.to_keep_free(adapter, tenant, passed_over)

    def _in_host(self, digest: str) -> bool:
        return digest in self._ahead.arrived or digest in self.host

    def _loaded(self, digest: str) -> HostAdapter | None:
        return self._ahead.arrived.get(digest) or self.host.peek(digest)

    def _refuse_beside_pins(self, adapter: HostAdapter) -> None:
        """Fail an adapter that does not fit next to the pinned ones: its requests would wait forever."""
        if not self.slots.could_ever_place(adapter):
            left = _mib(self.slots.budget - self.slots.pinned_bytes)
            reason = f"its {_mib(adapter.device_bytes)} do not fit next to the pinned adapters, which leave {left}"
            self._failures[adapter.digest] = AdapterLoadError(reason, code=ServerOverloaded.code)

    def _install_in_slot(self, adapter: HostAdapter, tenant: str) -> bool:
        try:
            placement = self.slots.place(adapter, tenant, {} if self.slots.has_room(adapter) else self._wanted())
        except LeaseError:  # the cached result for its size does not hold for this adapter: it keeps waiting
            return False
        for slot in placement.evicted.values():
            self._counts.evictions[Residency.DEVICE] += 1
            self._runner.clear(slot)
        self._drop_arrival(adapter.digest)
        try:
            self._runner.install(placement.slot, placement.generation, adapter)
        except AdapterLoadError as error:
            self._refuse(adapter.digest, error)
            return False
        except Exception as error:  # noqa: BLE001 - one adapter that the device chokes on must not stop the engine
            self._refuse(adapter.digest, AdapterLoadError(f"{type(error).__name__}: {error}"))
            return False
        return True

    def _drop_arrival(self, digest: str) -> None:
        if self._ahead.drop(digest):
            self._trim_host()  # as a merely cached adapter it may exceed the budget

    def _refuse(self, digest: str, error: AdapterLoadError) -> None:
        self.slots.vacate(digest)
        self.host.forget(digest)
        self._failures[digest] = error

    def poll_loads(self) -> Mapping[str, AdapterLoadError]:
        """Collect finished loads; returns, by digest, the errors of adapters that could not be loaded or installed."""
        self.slots.invalidate()
        self._ahead.invalidate()
        for done in self._loader.poll():
            digest = done.ref.digest
            outcome = self._checked(done.outcome)
            if isinstance(outcome, AdapterLoadError):
                self._failures[digest] = outcome
                self._ahead.fail(digest)
                continue
            self._ahead.arrive(outcome)
            wanted = self._wanted() if self.host.full else {}
            dropped = self.host.put(outcome, self._ahead.users(digest), wanted)
            self._counts.evictions[Residency.HOST] += len(dropped)
            self._counts.loads.append(LoadReport(source=Residency.DISK, seconds=done.seconds))
        self._trim_host()
        failures, self._failures = self._failures, {}
        return failures

    def _checked(self, outcome: HostAdapter | AdapterLoadError) -> HostAdapter | AdapterLoadError:
        """Return what was loaded, or the error if it can never be kept."""
        if isinstance(outcome, AdapterLoadError):
            return outcome
        return self._too_large(outcome.device_bytes, outcome.host_bytes) or outcome

    def _too_large(self, on_device: int, in_host: int) -> AdapterLoadError | None:
        for size, budget, where, setting in (
            (on_device, self.slots.budget, "the device's", "adapter_memory_mib"),
            (in_host, self.host_budget, "the host's", "host_adapter_mib"),
        ):
            if size > budget:
                memory = f"{where} memory for adapters, {_mib(budget)} ({called(setting)})"
                return AdapterLoadError(f"its {_mib(size)} are more than {memory}", code=AdapterTooLarge.code)
        return None

    # --- down ----------------------------------------------------------------------------------------------------

    def forget(self, digest: str) -> None:
        """Mark an adapter that no request can name any more, and unpin it; `sweep` drops it once nothing needs it."""
        self.slots.unpin(digest)
        self._forgotten.add(digest)

    def remember(self, digest: str, tenant: str) -> None:
        """A tenant names the adapter (again): cancel `forget`, and mark it as just used in host memory.

        Otherwise host memory would first evict the adapters longest on the device, which are the most popular of all.
        """
        self._forgotten.discard(digest)
        self.host.use(digest, tenant)

    def sweep(self, needed: set[str]) -> list[str]:
        """Drop arrivals that nobody waits for any more, and forgotten adapters not needed; returns the latter."""
        dropped = []
        for digest in self._ahead.arrived.keys() - needed:
            self._drop_arrival(digest)
        for digest in self._forgotten - needed:
            if self._loader.is_pending(digest):
                continue
            if self.slots.holds(digest):
                self._runner.clear(self.slots.vacate(digest))
            self.host.forget(digest)
            self._forgotten.discard(digest)
            dropped.append(digest)
        return dropped

    @property
    def wants_sweep(self) -> bool:
        """Whether `sweep` might find anything."""
        return bool(self._ahead.arrived or self._forgotten)

    # --- reports -------------------------------------------------------------------------------------------------

    def take_counts(self) -> TierCounts:
        """Return what happened since the last call."""
        counts, self._counts = self._counts, TierCounts()
        return counts

    def take_residents(self) -> list[ResidentAdapter] | None:
        """Return every resident adapter with its fastest tier, or None if nothing changed since the last call."""
        on_device = self.slots.digests()
        in_host = {*self.host.digests(), *self._ahead.arrived}.difference(on_device)
        residents = [
            *(_resident(digest, Residency.DEVICE, self.slots.users(digest)) for digest in sorted(on_device)),
            *(
                _resident(digest, Residency.HOST, (*self.host.users(digest), *self._ahead.users(digest)))
                for digest in sorted(in_host)
            ),
        ]
        if residents == self._told:
            return None
        self._told = residents
        return residents

    def check_integrity(self) -> None:
        """Check the accounting of host memory and of the loads ahead; that of the slots needs the leases (`SlotTable`).

        Raises:
            RuntimeError: the accounting is broken.
        """
        self.host.check_integrity()
        self._loader.check_integrity()
        self._recent.check_integrity()
        self._ahead.check_integrity(self._loader.pending)
        if self.host_bytes > self.host_budget and set(self.host.digests()) - self._ahead.arrived.keys():
            raise RuntimeError("adapters take more of host memory than they may")
        if on_both := self._ahead.arrived.keys() & set(self.slots.digests()):
            raise RuntimeError(f"adapters wait for a slot and have one: {sorted(on_both)}")

    def close(self) -> None:
        """Stop the loader."""
        self._loader.close()


def _mib(size: int) -> str:
    return f"{size / 2**20:.1f} MiB"


def _resident(digest: str, tier: Residency, tenants: Collection[str]) -> ResidentAdapter:
    return ResidentAdapter(digest=digest, tier=tier, tenants=sorted(set(tenants)))
