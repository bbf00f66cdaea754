"""Which sequences take part in the next step, and with how many tokens.

Owns the queue and the running set, and every hold a sequence has (cache blocks, lease): they are taken here and
returned in `retire` and `preempt`, nowhere else. It never computes.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from collections.abc import Sequence as Seq
from dataclasses import dataclass

from headmix_server.core.runner import Batch, BatchRow, Runner
from headmix_server.engine.kv_cache import KVCache
from headmix_server.engine.sequence import Sequence
from headmix_server.engine.tiers import AdapterTiers

SLOT_PATIENCE_SECONDS = 0.5
"""How long a sequence waits for a slot before newcomers may no longer prolong another adapter's stay on its slot."""


@dataclass(slots=True)
class PrefixCounts:
    """Prompt tokens looked up in the prefix cache, and how many of them were there, since the counts were taken."""

    queries: int = 0
    hits: int = 0


class Scheduler:
    """First come, first served; decode before prefill; a cold adapter delays only those who want it.

    The cache for all known tokens is taken at admission, so prefill never runs out of it and only decoding, one token
    a step, can make another sequence give way. `whole_prompts` forbids chunks: bidirectional attention cannot be cut.
    """

    def __init__(
        self,
        runner: Runner,
        kv_cache: KVCache,
        tiers: AdapterTiers,
        *,
        max_batch_tokens: int,
        max_running: int,
        whole_prompts: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.kv_cache = kv_cache
        self.tiers = tiers
        self.waiting: OrderedDict[int, Sequence] = OrderedDict()
        self.running: OrderedDict[int, Sequence] = OrderedDict()
        self._runner = runner
        self._max_batch_tokens = max_batch_tokens
        self._max_running = max_running
        self._whole_prompts = whole_prompts
        self._clock = clock
        self._prefix_counts = PrefixCounts()

    def add(self, sequence: Sequence) -> None:
        """Queue a new sequence, its prompt's blocks named already: a step may be computing meanwhile."""
        sequence.keys = self.kv_cache.keys_of(sequence.tenant, sequence.digest)
        if sequence.keys is not None:
            sequence.keys.at_least(len(sequence.tokens) // self.kv_cache.block_size, sequence.tokens)
        self.waiting[sequence.sequence_id] = sequence

    # --- a step's rows -------------------------------------------------------------------------------------------

    def schedule(self, loads_waiting: int = 0) -> Batch:
        """Choose the next step's rows within the token budget, admitting from the queue what fits.

        `loads_waiting` loads asked for by name have long waited for a slot: newcomers are kept from that many.
        """
        rows: dict[int, BatchRow] = {}
        running_before = len(self.running)
        budget = self._continue_running(rows)
        preempted = len(self.running) < running_before
        kept_free: set[str] = set()
        for _ in range(loads_waiting):
            self._keep_newcomers_from_one(kept_free)
        self._admit(rows, 0 if preempted else budget, kept_free)
        return Batch(tuple(rows.values()))

    def _continue_running(self, rows: dict[int, BatchRow]) -> int:
        """Give every running sequence its row, decoding ones first; returns the budget left."""
        budget = self._max_batch_tokens
        prefilling = [sequence for sequence in self.running.values() if sequence.remaining > 1]
        decoding = [sequence for sequence in self.running.values() if sequence.remaining == 1]
        for sequence in decoding + prefilling:
            if budget == 0:
                break
            count = min(sequence.remaining, budget)
            if sequence.sequence_id in self.running and self._make_room(sequence, count, rows):
                rows[sequence.sequence_id] = self._row(sequence, count)
                budget -= count
        return budget

    def _make_room(self, sequence: Sequence, count: int, rows: dict[int, BatchRow]) -> bool:
        """Preempt the last admitted until `sequence` can grow by `count`; false where it had to go itself.

        The first admitted never goes, so somebody always comes nearer to the end. Who has gone needs all its blocks
        at once to come back, so two sequences cannot take turns at throwing each other out.
        """
        while not self.kv_cache.can_grow(sequence.sequence_id, sequence.num_computed + count):
            victim = next(s for s in reversed(self.running.values()) if s.sequence_id not in rows)
            self.preempt(victim)
            if victim is sequence:
                return False
        return True

    def _row(self, sequence: Sequence, count: int) -> BatchRow:
        return BatchRow(
            sequence_id=sequence.sequence_id,
            start=sequence.num_computed,
            count=count,
            history=sequence.tokens,
            prompt_length=sequence.prompt_length,
            blocks=self.kv_cache.grow(sequence.sequence_id, sequence.num_computed + count),
            lease=sequence.lease,
            samples=count == sequence.remaining,
            sampling=sequence.sampling,
            embedding=sequence.embedding,
        )

    # --- admission -----------------------------------------------------------------------------------------------

    def _admit(self, rows: dict[int, BatchRow], budget: int, passed_over: set[str]) -> None:
        """Admit in order of arrival, passing over those whose adapter is not on the device, or is in `passed_over`.

        The queue is walked to its end even when nothing more fits, so that adapters load while their requests wait.
        """
        now = self._clock()
        self.tiers.want(s.adapter.digest for s in self.waiting.values() if s.adapter is not None)
        full = False
        for sequence in list(self.waiting.values()):
            if full:
                if sequence.adapter is not None:
                    self.tiers.fetch(sequence.adapter)
            elif self._adapter_is_ready(sequence, passed_over, now):
                prefix = self._find_prefix(sequence)
                count = min(sequence.remaining - len(prefix) * self.kv_cache.block_size, budget)
                full = not self._fits(sequence, count, prefix)
                if not full:
                    self._start(sequence, prefix, now)
                    rows[sequence.sequence_id] = self._row(sequence, count)
                    budget -= count

    def _adapter_is_ready(self, sequence: Sequence, passed_over: set[str], now: float) -> bool:
        """Bring the sequence's adapter to the device if that can be done at once; otherwise pass over all who want it.

        A sequence that has long lacked nothing but a slot keeps newcomers from one leased adapter, the one with the
        fewest leases, until that slot is idle: so nobody starves however many adapters are in use.
        """
        if sequence.adapter is None:
            return True
        digest = sequence.adapter.digest
        if digest in passed_over:
            return False
        if self.tiers.prepare(sequence.adapter):
            return True
        passed_over.add(digest)
        if now - sequence.arrived > SLOT_PATIENCE_SECONDS and self.tiers.waits_for_slot(digest):
            self._keep_newcomers_from_one(passed_over)
        return False

    def _keep_newcomers_from_one(self, passed_over: set[str]) -> None:
        leases = {digest: n for digest, n in self.tiers.slots.lease_counts().items() if digest not in passed_over}
        if leases:
            passed_over.add(min(leases, key=leases.__getitem__))

    def _find_prefix(self, sequence: Sequence) -> Seq[int]:
        if sequence.keys is None or sequence.needs_every_state:
            return ()
        return self.kv_cache.find_prefix(sequence.keys, sequence.tokens)

    def _fits(self, sequence: Sequence, count: int, prefix: Seq[int]) -> bool:
        if count == 0 or len(self.running) >= self._max_running:
            return False
        if self._whole_prompts and count < sequence.remaining:
            return False
        return self.kv_cache.can_admit(len(sequence.tokens), prefix)

    def _start(self, sequence: Sequence, prefix: Seq[int], now: float) -> None:
        del self.waiting[sequence.sequence_id]
        self.running[sequence.sequence_id] = sequence
        self.kv_cache.admit(sequence.sequence_id, len(sequence.tokens), prefix)
        sequence.num_computed = len(prefix) * self.kv_cache.block_size
        if sequence.adapter is not None:
            sequence.lease = self.tiers.acquire(sequence.adapter.digest)
        if sequence.queue_seconds is None:
            sequence.queue_seconds = now - sequence.arrived
            sequence.num_cached = sequence.num_computed
            self._count_prefix(sequence)

    def _count_prefix(self, sequence: Sequence) -> None:
        if sequence.keys is not None and not sequence.needs_every_state:
            self._prefix_counts.queries += len(sequence.tokens)
            self._prefix_counts.hits += sequence.num_cached

    def commit(self, sequence: Sequence, num_computed: int) -> None:
        """Note how far a sequence has been computed, and let others find what is complete of it."""
        sequence.num_computed = num_computed
        if sequence.keys is not None:
            self.kv_cache.publish(sequence.sequence_id, sequence.keys, sequence.tokens, num_computed)

    # --- exits ---------------------------------------------------------------------------------------------------

    def preempt(self, sequence: Sequence) -> None:
        """Send a running sequence back to the head of the queue; what the cache loses of it is computed again."""
        del self.running[sequence.sequence_id]
        self._return_holds(sequence)
        sequence.num_computed = 0
        sequence.prompt_logprobs.clear()
        self.waiting[sequence.sequence_id] = sequence
        self.waiting.move_to_end(sequence.sequence_id, last=False)

    def retire(self, sequence: Sequence) -> None:
        """Take a sequence out for good and return everything it holds; every exit path ends here, once.

        One that is queued holds nothing, so it may go at any time.
        """
        if self.waiting.pop(sequence.sequence_id, None) is None:
            del self.running[sequence.sequence_id]
            self._return_holds(sequence)

    def _return_holds(self, sequence: Sequence) -> None:
        self.kv_cache.free(sequence.sequence_id)
        self._runner.release(sequence.sequence_id)
        if sequence.lease is not None:
            lease, sequence.lease = sequence.lease, None
            self.tiers.release(lease)

    # --- state ---------------------------------------------------------------------------------------------------

    def take_prefix_counts(self) -> PrefixCounts:
        """Return what was looked up since the last call."""
        counts, self._prefix_counts = self._prefix_counts, PrefixCounts()
        return counts

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
