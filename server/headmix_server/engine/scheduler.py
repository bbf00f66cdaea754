"""Which sequences take part in the next step, and with how many tokens.

Owns the queue and the running set, and every hold a sequence has (cache blocks, lease): they are taken here and
returned in `retire` and `preempt`, nowhere else. It never computes.
"""

import time
from collections import OrderedDict

from headmix_server.engine.kv_cache import KVCache
from headmix_server.engine.runner import Batch, BatchRow, Runner
from headmix_server.engine.sequence import Sequence
from headmix_server.engine.tiers import AdapterTiers

SLOT_PATIENCE_SECONDS = 0.5
"""How long a sequence waits for a slot before newcomers may no longer prolong another adapter's stay on its slot."""


class Scheduler:
    """First come, first served; decode before prefill; a cold adapter delays only those who want it."""

    def __init__(
        self, runner: Runner, kv_cache: KVCache, tiers: AdapterTiers, *, max_batch_tokens: int, max_running: int
    ) -> None:
        self.kv_cache = kv_cache
        self.tiers = tiers
        self.waiting: OrderedDict[int, Sequence] = OrderedDict()
        self.running: OrderedDict[int, Sequence] = OrderedDict()
        self._runner = runner
        self._max_batch_tokens = max_batch_tokens
        self._max_running = max_running

    def add(self, sequence: Sequence) -> None:
        """Queue a new sequence."""
        self.waiting[sequence.sequence_id] = sequence

    def schedule(self) -> Batch:
        """Choose the next step's rows within the token budget, admitting from the queue what fits."""
        rows: dict[int, BatchRow] = {}
        budget = self._max_batch_tokens
        preempted = False
        for sequence in sorted(self.running.values(), key=lambda sequence: sequence.remaining > 1):
            if budget == 0:
                break
            if sequence.sequence_id not in self.running:
                continue
            count = min(sequence.remaining, budget)
            room, victims = self._make_room(sequence, count, rows)
            preempted |= victims
            if room:
                rows[sequence.sequence_id] = self._row(sequence, count)
                budget -= count
        if not preempted:
            self._admit(rows, budget)
        return Batch(tuple(rows.values()))

    def _make_room(self, sequence: Sequence, count: int, rows: dict[int, BatchRow]) -> tuple[bool, bool]:
        """Preempt the youngest until `sequence` can grow by `count`; returns whether it can, and if any went."""
        victims = False
        while not self.kv_cache.can_allocate(sequence.sequence_id, sequence.num_computed + count):
            victim = next(s for s in reversed(self.running.values()) if s.sequence_id not in rows)
            self.preempt(victim)
            victims = True
            if victim is sequence:
                return False, True
        return True, victims

    def _row(self, sequence: Sequence, count: int) -> BatchRow:
        end = sequence.num_computed + count
        return BatchRow(
            sequence_id=sequence.sequence_id,
            start=sequence.num_computed,
            count=count,
            history=sequence.tokens,
            prompt_length=sequence.prompt_length,
            blocks=self.kv_cache.allocate(sequence.sequence_id, end),
            lease=sequence.lease,
            samples=count == sequence.remaining,
            sampling=sequence.sampling,
        )

    def _admit(self, rows: dict[int, BatchRow], budget: int) -> None:
        draining: set[str] = set()
        for sequence in list(self.waiting.values()):
            if budget == 0 or len(self.running) >= self._max_running:
                return
            if not self.kv_cache.can_allocate(sequence.sequence_id, len(sequence.tokens)):
                return
            if not self._lease(sequence, draining):
                continue
            del self.waiting[sequence.sequence_id]
            self.running[sequence.sequence_id] = sequence
            if sequence.queue_seconds is None:
                sequence.queue_seconds = time.monotonic() - sequence.arrived
            count = min(sequence.remaining, budget)
            rows[sequence.sequence_id] = self._row(sequence, count)
            budget -= count

    def _lease(self, sequence: Sequence, draining: set[str]) -> bool:
        """Lease the sequence's adapter; false where it must wait; after a while a slot is then kept from newcomers."""
        if sequence.adapter is None:
            return True
        if sequence.adapter.digest in draining:
            return False
        sequence.lease = self.tiers.try_acquire(sequence.adapter, first_try=not sequence.looked_up)
        sequence.looked_up = True
        if sequence.lease is None and time.monotonic() - sequence.arrived > SLOT_PATIENCE_SECONDS:
            self._drain_one(draining)
        return sequence.lease is not None

    def _drain_one(self, draining: set[str]) -> None:
        leased = {d: n for d, n in self.tiers.slots.leased_digests().items() if d not in draining}
        if leased and not self.tiers.slots.can_reserve():
            draining.add(min(leased, key=lambda digest: leased[digest]))

    def preempt(self, sequence: Sequence) -> None:
        """Send a running sequence back to the head of the queue; what it had computed will be computed again."""
        del self.running[sequence.sequence_id]
        self._return_holds(sequence)
        sequence.num_computed = 0
        sequence.prompt_logprobs.clear()
        self.waiting[sequence.sequence_id] = sequence
        self.waiting.move_to_end(sequence.sequence_id, last=False)

    def retire(self, sequence: Sequence) -> None:
        """Take a sequence out for good and return everything it holds; every exit path ends here, once."""
        if self.running.pop(sequence.sequence_id, None) is None:
            del self.waiting[sequence.sequence_id]
        self._return_holds(sequence)

    def _return_holds(self, sequence: Sequence) -> None:
        self.kv_cache.free(sequence.sequence_id)
        self._runner.release(sequence.sequence_id)
        if sequence.lease is not None:
            lease, sequence.lease = sequence.lease, None
            self.tiers.release(lease)

    def needed_digests(self) -> set[str]:
        """Return the adapters that queued or running sequences name."""
        sequences = [*self.waiting.values(), *self.running.values()]
        return {sequence.adapter.digest for sequence in sequences if sequence.adapter is not None}

    def check_integrity(self) -> None:
        """Check that every hold belongs to a running sequence and every running sequence holds what it should.

        Raises:
            RuntimeError: the accounting is broken.
        """
        self.kv_cache.check_integrity(set(self.running))
        self.tiers.slots.check_integrity([s.lease for s in self.running.values() if s.lease is not None])
        if any((s.lease is None) != (s.adapter is None) for s in self.running.values()):
            raise RuntimeError("a running sequence lacks its lease")
        if any(s.lease is not None for s in self.waiting.values()):
            raise RuntimeError("a queued sequence holds a lease")
