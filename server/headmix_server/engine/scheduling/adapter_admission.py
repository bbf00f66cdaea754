"""Which waiting requests may start in a step, as far as their adapters are concerned.

Owns the rules for passing over requests whose adapter is not loaded; the scheduler owns places, blocks and leases. One
`AdapterAdmission` serves one step.
"""

from collections.abc import Iterable, Iterator

from headmix_server.engine.residency.tiers import AdapterTiers
from headmix_server.engine.scheduling.backfill import Backfill
from headmix_server.engine.scheduling.gathering import Gathering
from headmix_server.engine.scheduling.wait_queue import WaitQueue
from headmix_server.engine.sequence import Sequence

SLOT_PATIENCE_SECONDS = 0.5
"""How long a sequence waits for a slot before newcomers may no longer prolong another adapter's stay in its slot."""

MOST_TOGETHER = 8
"""Combinations of several adapters per tenant that are tried in a step: each takes longer than one adapter."""


class AdapterAdmission:
    """One step's walk through the tenants' lines; `overtaking` handles sequences that the cache cannot hold.

    `walked` are the accounts whose lines were walked to the end, so that all their adapters have been requested.
    `hopeless` are sequences whose adapters can never be on the device together. `lacks_slot`: a sequence that is not
    background work, or an explicit load, waits for nothing but a slot.
    """

    def __init__(
        self,
        queue: WaitQueue,
        tiers: AdapterTiers,
        overtaking: Backfill,
        now: float,
        loads_waiting: Iterable[tuple[str, str]],
    ) -> None:
        self.overtaking = overtaking
        self.walked: set[str] = set()
        self._queue = queue
        self._tiers = tiers
        self._now = now
        self._lines: dict[str, Iterator[Sequence]] = {}
        self._not_ready: set[tuple[str, str]] = set()
        self._together_not_ready: set[tuple[str, frozenset[str]]] = set()
        self._cut_short: set[str] = set()  # accounts whose lines were not walked to the end
        self._kept_free: set[str] = set()
        self._has_all_kept: set[str] = set()  # tenants that no further adapter can be kept free for
        self.hopeless: list[Sequence] = []
        self.lacks_slot = False
        for digest, tenant in loads_waiting:
            self.lacks_slot = True
            self._keep_newcomers_away(digest, tenant)
        self._gathering = Gathering(queue.first_with_several(now - SLOT_PATIENCE_SECONDS), tiers)
        self._gather()

    def _gather(self) -> None:
        sequence = self._gathering.sequence
        if sequence is None:
            return
        if self._gathering.is_hopeless:
            self.hopeless.append(sequence)
            return
        for digest in self._gathering.missing():
            self._keep_newcomers_away(digest, sequence.tenant)

    def next_of(self, account: str) -> Sequence | None:
        """Return the account's next sequence with its adapter on the device and its grammar compiled, None at the end.

        On the way, adapters are installed in slots where that is possible at once.
        """
        if account not in self._lines:
            self._lines[account] = iter(list(self._queue.line(account)))
        sequence = next(filter(self._is_ready, self._lines[account]), None)
        if sequence is None and account not in self._cut_short:
            self.walked.add(account)
        return sequence

    def _is_ready(self, sequence: Sequence) -> bool:
        """Install the sequence's adapter if that is possible at once; otherwise pass over all sequences that want it.

        If a sequence has long been missing only a slot, newcomers may not use an adapter that could leave for it, the
        one with the fewest leases, until that one is idle. So no sequence starves, however many adapters are in use.
        """
        if sequence.awaits_grammar:
            return False
        if sequence.adapter is None:
            return True
        if sequence.beside:
            return self._are_ready(sequence)
        tenant, digest = sequence.tenant, sequence.adapter.digest
        if digest in self._kept_free or (tenant, digest) in self._not_ready:
            return False
        if self._tiers.install(sequence.adapter, tenant):
            return True
        self._not_ready.add((tenant, digest))
        if self._tiers.waits_for_slot(digest, tenant):
            self.lacks_slot |= not sequence.background
            patient = self._now - sequence.arrived > SLOT_PATIENCE_SECONDS and tenant not in self._has_all_kept
            if patient:
                self._keep_newcomers_away(digest, tenant)
        return False

    def _are_ready(self, sequence: Sequence) -> bool:
        """Install the adapters of a sequence with several if that is possible at once: all or none of them is of use.

        At most `MOST_TOGETHER` different combinations of a tenant are tried in a step.
        """
        tenant, digests = sequence.tenant, frozenset(ref.digest for ref in sequence.adapters)
        if not self._gathering.is_for(sequence) and not self._may_be_tried(sequence, digests):
            return False
        ready = self._tiers.install_together(sequence.adapters, tenant)
        if not ready:
            self._together_not_ready.add((tenant, digests))
            self.lacks_slot |= not sequence.background and any(
                self._tiers.waits_for_slot(digest, tenant) for digest in digests
            )
        return ready

    def _may_be_tried(self, sequence: Sequence, digests: frozenset[str]) -> bool:
        tenant = sequence.tenant
        if (tenant, digests) in self._together_not_ready or not self._kept_free.isdisjoint(digests):
            return False
        if sum(other == tenant for other, _ in self._together_not_ready) >= MOST_TOGETHER:
            self._cut_short.add(sequence.account)
            return False
        return True

    def _keep_newcomers_away(self, digest: str, tenant: str) -> None:
        chosen = self._tiers.to_keep_free(digest, tenant, self._kept_free)
        if chosen is None:
            self._has_all_kept.add(tenant)
        else:
            self._kept_free.update(chosen)
