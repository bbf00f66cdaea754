"""Which sequences take part in the next step, and with how many tokens.

Owns the queue, the running set, and everything a sequence holds (cache blocks, lease): these are acquired here and
released in `retire` and `preempt`, nowhere else. Tenants are charged for what a step will compute. The scheduler itself
computes nothing.
"""

import time
from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Iterable
from collections.abc import Sequence as Seq
from heapq import heapify, heappop, heapreplace

from headmix_server.core.runner import Batch, BatchRow, RowResult, Runner
from headmix_server.engine.cache.kv_cache import KVCache, PrefixCounts
from headmix_server.engine.residency.tiers import AdapterTiers
from headmix_server.engine.scheduling.adapter_admission import AdapterAdmission
from headmix_server.engine.scheduling.backfill import Backfill
from headmix_server.engine.scheduling.background import Background
from headmix_server.engine.scheduling.charges import Charges
from headmix_server.engine.scheduling.virtual_counters import OUTPUT_COST, VirtualCounters
from headmix_server.engine.scheduling.wait_queue import WaitQueue
from headmix_server.engine.sequence import Sequence
from headmix_server.engine.speculation.speculation import Speculation


class Scheduler:
    """Decode before prefill. The rest of the budget goes, row by row, to the tenant that has received the least
    service, to continue a prompt or admit a new one. Within a tenant: first come, first served. A cold adapter delays
    only the requests that use it.

    Background sequences pause while others have rows, except in every so many steps (`Background`), and are
    preempted if others lack the places, blocks or slots that they hold. Their service is counted apart.

    The cache blocks for all known tokens are allocated at admission, so prefill never runs out of them; only decoding,
    at one token per step, can preempt another sequence. `whole_prompts` forbids chunks: bidirectional attention cannot
    be split.
    """

    def __init__(
        self,
        runner: Runner,
        kv_cache: KVCache,
        tiers: AdapterTiers,
        counters: VirtualCounters,
        *,
        max_batch_tokens: int,
        max_running: int,
        whole_prompts: bool = False,
        speculative_tokens: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.speculation = Speculation(speculative_tokens)
        self.kv_cache = kv_cache
        self.tiers = tiers
        self.charges = Charges(counters)
        self.waiting = WaitQueue(counters, self.charges.counters(background=True))
        self.running: OrderedDict[int, Sequence] = OrderedDict()
        self.background = Background(self.running, max_batch_tokens, clock=clock)
        self._runner = runner
        self._max_batch_tokens = max_batch_tokens
        self._max_running = max_running
        self._whole_prompts = whole_prompts
        self._clock = clock
        self._prefix_counts = PrefixCounts()
        self.hopeless: Seq[Sequence] = ()
        tiers.want(self.waiting.wanted)

    def add(self, sequence: Sequence) -> None:
        """Queue a new sequence, computing its prompt's block keys at once: a step may be running in the meantime."""
        self.speculation.begin(sequence)
        sequence.keys = self.kv_cache.keys_of(sequence.tenant, sequence.combination)
        if sequence.keys is not None:
            sequence.keys.at_least(len(sequence.tokens) // self.kv_cache.block_size, sequence.tokens)
        if not sequence.background:
            self.background.pace.other_arrived()
        self.waiting.join(sequence)
        if self.charges.are_many:
            self.charges.forget_absent([*self.waiting.values(), *self.running.values()], self.tiers.present)

    def _of_kind(self, *, background: bool) -> list[Sequence]:
        """Return the running background sequences, or the others, in the order of their admission."""
        return [sequence for sequence in self.running.values() if sequence.background == background]

    # --- a step's rows -------------------------------------------------------------------------------------------

    def schedule(self, loads_waiting: Iterable[tuple[str, str]] = ()) -> Batch:
        """Choose the next step's rows within the token budget, admitting from the queue what fits.

        `loads_waiting` lists, as (digest, tenant), the explicit load requests that have long waited for a slot:
        newcomers are kept from adapters that could leave for them. Afterwards, `hopeless` lists waiting sequences whose
        adapters can never be on the device together.
        """
        rows: dict[int, BatchRow] = {}
        running_before = len(self._of_kind(background=False))
        budget = self._decode(rows, self._max_batch_tokens)
        budget -= self._add_drafts(rows, budget)
        running = len(self._of_kind(background=False))
        closed = running < running_before or running >= self._max_running  # the former: one was preempted
        admission = None if closed else self._admission(loads_waiting)
        self.hopeless = [] if admission is None else admission.hopeless
        self._share_out(rows, budget, admission)
        self._add_background(rows, admission)
        self._load_adapters(() if admission is None else admission.walked)
        return Batch(tuple(rows.values()))

    def _admission(self, loads_waiting: Iterable[tuple[str, str]]) -> AdapterAdmission:
        now = self._clock()
        return AdapterAdmission(self.waiting, self.tiers, self._backfill(now), now, loads_waiting)

    def _backfill(self, now: float, *, background: bool = False) -> Backfill:
        slack = OUTPUT_COST * self.kv_cache.max_tokens
        return Backfill(self.charges.counters(background=background), self._of_kind(background=background), slack, now)

    def _add_background(self, rows: dict[int, BatchRow], admission: AdapterAdmission | None) -> None:
        """Add background rows if the step has no others, or once in a while; first make room that others lack."""
        if admission is not None:
            gave_way = admission.lacks_slot and self._preempt_background(holds_slot=True)
            may_start = self.background.may_start(rows, admission, gave_way=gave_way)
            admission.overtaking = self._backfill(self._clock(), background=True)
            admission = admission if may_start else None
        room = self._max_batch_tokens - sum(row.count for row in rows.values())
        budget = self.background.budget(rows, room)
        if budget > 0:
            budget = self._decode(rows, budget, background=True)
            self._share_out(rows, budget, admission, background=True, room=room)

    def _decode(self, rows: dict[int, BatchRow], budget: int, *, background: bool = False) -> int:
        """Give every decoding sequence its row, within the budget; returns the remaining budget.

        Except for background sequences, each of them had a row in the previous step, so there are never more than the
        budget has tokens. If the cache may not hold another token for each, tenants with the most service come last: a
        sequence that has its row is no longer preempted.
        """
        decoding = [sequence for sequence in self._of_kind(background=background) if sequence.remaining == 1]
        if self.kv_cache.num_free < len(decoding):
            decoding[1:] = sorted(decoding[1:], key=self.charges.service)
        generating: list[Sequence] = []
        for sequence in decoding[:budget]:
            if sequence.sequence_id in self.running and self._make_room(sequence, rows):
                rows[sequence.sequence_id] = self._row(sequence, 1)
                budget -= 1
                if sequence.num_charged < sequence.prompt_length:  # the last token of its prompt
                    self.charges.row(sequence, 1)
                else:
                    generating.append(sequence)
        self.charges.generated(generating, background=background)
        return budget

    def _add_drafts(self, rows: dict[int, BatchRow], budget: int) -> int:
        """Let decoding rows compute drafts too, where that is cheap; returns the number of draft tokens.

        Nothing is preempted for a draft: it uses free blocks, and none is made while a prompt is being computed.
        """
        running = len(self._of_kind(background=False))
        if not rows or not self.speculation.pays(running) or len(rows) < running:
            return 0
        num_drafts = 0
        for number, row in list(rows.items()):
            sequence = self.running[number]
            most = budget - num_drafts
            drafts = self.speculation.draft(sequence, most, len(rows)) if sequence.num_outputs else ()
            if drafts and self.kv_cache.can_grow(number, row.end + len(drafts)):
                rows[number] = self._row(sequence, 1, drafts)
                num_drafts += len(drafts)
        return num_drafts

    def judge_drafts(self, sequence: Sequence, row: BatchRow, result: RowResult) -> None:
        """Record which of a row's drafts were right, and charge for the tokens they yielded beyond the first."""
        self.speculation.judge(sequence, row, result)
        self.charges.drafted(sequence, len(result.further))

    def _make_room(self, sequence: Sequence, rows: dict[int, BatchRow]) -> bool:
        """Preempt others until `sequence` can grow by a token; returns False if it was preempted itself.

        Background sequences go first, and never take from others. Then the victim is the last admitted sequence of the
        tenant with the most service; the first admitted of all is never a victim, so some sequence always makes
        progress. A preempted sequence needs all its blocks at once to come back, so two sequences cannot take turns
        preempting each other.
        """
        while not self.kv_cache.can_grow(sequence.sequence_id, sequence.num_computed + 1):
            if not sequence.background and self._preempt_background():
                continue
            alike = self._of_kind(background=sequence.background)
            others = [other for other in reversed(alike[1:]) if other.sequence_id not in rows]
            victim = max(others, key=self.charges.service, default=sequence)
            self.preempt(victim)
            if victim is sequence:
                return False
        return True

    def _preempt_background(self, *, holds_slot: bool = False) -> bool:
        """Preempt what background work gives up, before any of it has a row; returns False if there is nothing."""
        given_up = self.background.to_preempt(holds_slot=holds_slot)
        for sequence in given_up:
            self.preempt(sequence)
        return bool(given_up)

    def _share_out(
        self,
        rows: dict[int, BatchRow],
        budget: int,
        admission: AdapterAdmission | None,
        *,
        background: bool = False,
        room: int = 0,
    ) -> None:
        """Distribute the budget left by decoding to prompts in progress and to the queue, row by row.

        Each row goes to the account with the lowest counter, which is charged at once; ties go to the one whose next
        sequence came first. With `admission` None, nothing is admitted from the queue. Where prompts cannot be split,
        the first may take `room`, if that is more than the budget.
        """
        counters = self.charges.counters(background=background)
        prefilling: dict[str, deque[Sequence]] = {}
        for running in self._of_kind(background=background):
            if running.remaining > 1:
                prefilling.setdefault(running.account, deque()).append(running)
        lines = {} if admission is None else self.waiting.lines(background=background)
        firsts = {account: next(iter(line)) for account, line in lines.items()}
        firsts |= {account: line[0].sequence_id for account, line in prefilling.items()}
        turns = [(counters.counter(account), first, account) for account, first in firsts.items()]
        heapify(turns)
        most = max(budget, room) if self._whole_prompts else budget
        while turns and budget > 0:
            _, first, account = turns[0]
            line = prefilling.get(account)
            sequence = line.popleft() if line else self._admit_next(account, most, admission, background=background)
            if sequence is None:
                heappop(turns)
                continue
            count = min(sequence.remaining, most)
            rows[sequence.sequence_id] = self._row(sequence, count)
            self.charges.row(sequence, count)
            budget -= count
            most = budget
            heapreplace(turns, (counters.counter(account), first, account))

    def _row(self, sequence: Sequence, known: int, drafts: Seq[int] = ()) -> BatchRow:
        """Return the row of this many known tokens, followed by the drafts."""
        count = known + len(drafts)
        return BatchRow(
            sequence_id=sequence.sequence_id,
            start=sequence.num_computed,
            count=count,
            history=sequence.tokens,
            prompt_length=sequence.prompt_length,
            blocks=self.kv_cache.grow(sequence.sequence_id, sequence.num_computed + count),
            lease=sequence.lease,
            samples=known == sequence.remaining,
            params=sequence.params,
            drafts=drafts,
            matcher=sequence.matcher,
            scale=sequence.scale,
            beside=sequence.leases_beside,
        )

    # --- admission -----------------------------------------------------------------------------------------------

    def _admit_next(
        self, account: str, budget: int, admission: AdapterAdmission | None, *, background: bool
    ) -> Sequence | None:
        """Admit the account's next sequence that can start; None if it has none or there is no room for it."""
        if admission is None or not self._has_place(background=background):
            return None
        sequence = admission.next_of(account)
        if sequence is None or not admission.overtaking.allows(sequence):
            return None
        prefix = self._find_prefix(sequence)
        if self._whole_prompts and sequence.remaining > budget:
            return None  # others may use the rest; in the next step this sequence comes first
        while not self.kv_cache.can_admit(len(sequence.tokens), prefix):
            if background or not self._preempt_background():
                admission.overtaking.block(sequence)
                return None
        if len(self.running) >= self._max_running:
            self._preempt_background()
        self._start(sequence, prefix)
        return sequence

    def _has_place(self, *, background: bool) -> bool:
        """Return whether another sequence may run; others may take the place of a background sequence."""
        running = self.running if background else self._of_kind(background=False)
        return len(running) < self._max_running

    def _load_adapters(self, walked: Collection[str]) -> None:
        """Start loading adapters while their requests wait, including requests that there is no room for yet.

        Admission has already requested those of the tenants whose lines it has `walked`.
        """
        for tenant, ref in self.waiting.asked():
            if tenant not in walked:
                self.tiers.load(ref, tenant)

    def _find_prefix(self, sequence: Sequence) -> Seq[int]:
        if sequence.keys is None or sequence.needs_every_state:
            return ()
        return self.kv_cache.find_prefix(sequence.keys, sequence.tokens)

    def _start(self, sequence: Sequence, prefix: Seq[int]) -> None:
        self.waiting.remove(sequence.sequence_id)
        self.running[sequence.sequence_id] = sequence
        self.kv_cache.admit(sequence.sequence_id, len(sequence.tokens), prefix)
        sequence.num_computed = len(prefix) * self.kv_cache.block_size
        sequence.hold([self.tiers.slots.acquire(ref.digest, sequence.tenant) for ref in sequence.adapters])
        if sequence.queue_seconds is None:
            sequence.queue_seconds = self._clock() - sequence.arrived
            sequence.num_cached = sequence.num_computed
            self._count_prefix(sequence)

    def _count_prefix(self, sequence: Sequence) -> None:
        if sequence.keys is not None and not sequence.needs_every_state:
            self._prefix_counts.queries += len(sequence.tokens)
            self._prefix_counts.hits += sequence.num_cached

    def commit(self, sequence: Sequence, num_computed: int) -> None:
        """Record how far a sequence has been computed, and publish its completed blocks."""
        sequence.num_computed = num_computed
        sequence.read_up_to(num_computed)
        if sequence.keys is not None:
            self.kv_cache.publish(sequence.sequence_id, sequence.keys, sequence.tokens, num_computed)

    # --- exits ---------------------------------------------------------------------------------------------------

    def preempt(self, sequence: Sequence) -> None:
        """Send a running sequence back to the head of its tenant's line; what the cache loses is recomputed."""
        del self.running[sequence.sequence_id]
        self._return_holds(sequence)
        sequence.num_computed = 0
        sequence.prompt_logprobs.clear()
        self.waiting.rejoin(sequence)

    def retire(self, sequence: Sequence) -> None:
        """Remove a sequence for good and release everything it holds; every exit path ends here, once.

        A queued sequence holds nothing, so it may be removed at any time.
        """
        if self.waiting.remove(sequence.sequence_id) is None:
            del self.running[sequence.sequence_id]
            self._return_holds(sequence)

    def _return_holds(self, sequence: Sequence) -> None:
        self.kv_cache.free(sequence.sequence_id)
        self._runner.release(sequence.sequence_id)
        for lease in sequence.give_up():
            self.tiers.slots.release(lease)

    # --- state ---------------------------------------------------------------------------------------------------

    def take_prefix_counts(self) -> PrefixCounts:
        """Return the counts since the last call."""
        counts, self._prefix_counts = self._prefix_counts, PrefixCounts()
        return counts

    def needed_digests(self) -> set[str]:
        """Return the adapters that queued or running sequences use."""
        sequences = [*self.waiting.values(), *self.running.values()]
        return {ref.digest for sequence in sequences for ref in sequence.adapters}

    def check_integrity(self) -> None:
        """Check that only running sequences hold anything, and that each of them holds what it should.

        Raises:
            RuntimeError: the accounting is broken.
        """
        self.waiting.check_integrity()
        self.tiers.check_integrity()
        self.kv_cache.check_integrity(set(self.running))
        self.tiers.slots.check_integrity([lease for s in self.running.values() for lease in s.leases])
        if len(self.running) > self._max_running or not self.running.keys().isdisjoint(self.waiting):
            raise RuntimeError("more sequences run than may, or one runs and waits")
        for number, sequence in self.running.items():
            if number != sequence.sequence_id or not 0 <= sequence.num_computed < len(sequence.tokens):
                raise RuntimeError(f"sequence {number} has nothing left to compute, or runs under another's number")
            self.kv_cache.check_table(number, sequence.keys, sequence.tokens, sequence.num_computed)
            if [lease.digest for lease in sequence.leases] != [ref.digest for ref in sequence.adapters]:
                raise RuntimeError("a running sequence lacks a lease, or has another's")
        for sequence in self.waiting.values():
            if sequence.leases or sequence.leases_beside or sequence.num_computed:
                raise RuntimeError("a queued sequence holds a lease or has computed something")
        for sequence in [*self.running.values(), *self.waiting.values()]:
            self._check_sequence(sequence)

    def _check_sequence(self, sequence: Sequence) -> None:
        """Check that a sequence is charged for every prompt token computed, and that its blocks' keys are right."""
        computed = min(sequence.num_computed, sequence.prompt_length)
        if not computed <= sequence.num_charged <= sequence.prompt_length:
            raise RuntimeError(
                f"sequence {sequence.sequence_id} is charged for {sequence.num_charged} tokens of its prompt, "
                f"of which {computed} of {sequence.prompt_length} are computed"
            )
        if sequence.keys is not None:
            sequence.keys.check_integrity(sequence.tenant, sequence.combination, sequence.tokens)
