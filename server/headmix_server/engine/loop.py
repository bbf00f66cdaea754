"""The engine: requests in, outputs out, one step at a time.

A step has three phases: schedule, run, commit. The engine handles requests and messages; the scheduler manages what
sequences hold, and the runner handles tensors. The engine runs on one thread. Between `begin` and `finish`, another
thread may compute and messages may arrive, but nothing that the step in flight uses is released until it has finished.
"""

import itertools
import time
from collections.abc import Callable
from collections.abc import Sequence as Seq
from typing import assert_never

from headmix_server.core.errors import NumericalError
from headmix_server.core.grammar import GrammarCompiler, GrammarError
from headmix_server.core.messages import (
    Abort,
    Failed,
    ForgetAdapter,
    LoadAdapter,
    Output,
    Request,
    StepReport,
    UnpinAdapter,
)
from headmix_server.core.observability.logging import get_logger
from headmix_server.core.runner import (
    AdapterLoadError,
    Batch,
    BatchRow,
    Pooled,
    RowFailed,
    RowResult,
    Runner,
    Sampled,
    Scored,
)
from headmix_server.engine.accounts import Accounts
from headmix_server.engine.cache.kv_cache import KVCache
from headmix_server.engine.config import EngineConfig
from headmix_server.engine.failed_steps import FailedSteps
from headmix_server.engine.flight import Flight
from headmix_server.engine.grammars import Grammars
from headmix_server.engine.outputs import adapter_name, failed, failure_text, result_output, token_output
from headmix_server.engine.refusal import refusal
from headmix_server.engine.residency.load_requests import LoadRequests
from headmix_server.engine.residency.tiers import AdapterTiers
from headmix_server.engine.scheduling.gathering import NO_ROOM
from headmix_server.engine.scheduling.scheduler import Scheduler
from headmix_server.engine.scheduling.virtual_counters import VirtualCounters
from headmix_server.engine.sequence import Sequence


class Engine:
    """Continuous batching over a runner."""

    def __init__(
        self,
        runner: Runner,
        limits: EngineConfig,
        *,
        compiler: GrammarCompiler | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.limits = limits
        self._counters = VirtualCounters()
        self.tiers = AdapterTiers(
            runner,
            limits.adapter_slots,
            limits.host_adapters,
            limits.loader_threads,
            device_bytes=limits.device_adapter_bytes,
            host_bytes=limits.host_adapter_bytes,
            weight_of=self._counters.weight_of,
            clock=clock,
        )
        self.scheduler = Scheduler(
            runner,
            KVCache(limits.kv_blocks, limits.block_size, prefix_cache=limits.prefix_cache and not limits.whole_prompts),
            self.tiers,
            self._counters,
            max_batch_tokens=limits.max_batch_tokens,
            max_running=limits.max_running,
            whole_prompts=limits.whole_prompts,
            speculative_tokens=limits.speculative_tokens,
            clock=clock,
        )
        self.runner = runner
        self._flight: Flight | None = None
        self._leaving: dict[int, Sequence] = {}
        self._by_request: dict[str, Sequence] = {}
        self._prefetches = LoadRequests(self.tiers, clock)
        self._grammars = Grammars(compiler)
        self._outputs: list[Output] = []
        self.accounts = Accounts(limits.eos_ids)
        self._steps: list[StepReport] = []
        self._ids = itertools.count()
        self._failed_steps = FailedSteps()
        self._numerical_errors = 0
        self._news = False
        self._clock = clock
        self._log = get_logger("engine")

    # --- requests ------------------------------------------------------------------------------------------------

    def submit(self, message: Request) -> None:
        """Queue a request, or respond at once with the reason why it cannot be served."""
        self._news = True
        if (fault := self._refusal(message) or self._make_place(message)) is not None:
            self._outputs.append(fault)
            return
        self.tiers.mark_seen(message.tenant)
        sequence = Sequence.from_message(next(self._ids), message, self._clock())
        for ref in sequence.adapters:
            self.tiers.remember(ref.digest, message.tenant)
            self.tiers.count_lookup(ref.digest)
            self.tiers.load(ref, message.tenant)
        self._by_request[message.request_id] = sequence
        self._grammars.prepare(sequence)
        self.scheduler.add(sequence)

    def _refusal(self, message: Request) -> Failed | None:
        if self._is_open(message.request_id):
            text = "this request id is in use"
            return Failed(request_id=message.request_id, code="internal_error", message=text)
        most_tokens, enforces = self.scheduler.kv_cache.max_tokens, self._grammars.enforceable
        return refusal(message, self.limits, most_tokens=most_tokens, enforces_grammars=enforces)

    def _make_place(self, message: Request) -> Failed | None:
        """Make sure that the queue has room for a request; returns the error if there is none for its tenant.

        A full queue is shared: the tenant with the most waiting requests gives up its newest to a tenant with fewer.
        """
        self.scheduler.charges.set_weight(message.tenant, message.weight)
        waiting = self.scheduler.waiting
        if len(waiting) < self.limits.max_waiting:
            return None
        if (displaced := waiting.displaceable(message.tenant, background=message.background)) is None:
            return Failed(request_id=message.request_id, code="server_overloaded", message="the queue is full")
        text = "queue full: this request was displaced to make room for a tenant with fewer queued requests"
        self._finish(displaced, failed(displaced, "server_overloaded", text))
        return None

    def _is_open(self, request_id: str) -> bool:
        return request_id in self._by_request or request_id in self._prefetches

    def abort(self, message: Abort) -> None:
        """Drop a request without further output; does nothing if it has already ended.

        Its account follows once the step that computes for it has finished.
        """
        self._news = True
        request_id = message.request_id
        self._outputs = [output for output in self._outputs if output.request_id != request_id]
        self._prefetches.drop(request_id)
        sequence = self._by_request.pop(request_id, None)
        if sequence is not None:
            self._retire(sequence)
        in_flight = sequence is not None and sequence.sequence_id in self._leaving
        self.accounts.abort(request_id, sequence, in_flight=in_flight)

    def _retire(self, sequence: Sequence) -> None:
        """Release what a sequence holds, once nothing in flight can use it."""
        if self._flight is not None and sequence.sequence_id in self.scheduler.running:
            self._leaving[sequence.sequence_id] = sequence
        else:
            self.scheduler.retire(sequence)

    def load(self, message: LoadAdapter) -> None:
        """Load an adapter onto the device, and pin it there if requested; `AdapterLoaded` follows when that is done."""
        self._news = True
        if self._is_open(message.request_id):
            text = "this request id is in use"
            self._outputs.append(Failed(request_id=message.request_id, code="internal_error", message=text))
        elif (fault := self._prefetches.add(message)) is not None:
            self._outputs.append(fault)

    def unpin(self, message: UnpinAdapter) -> None:
        """End a tenant's pin of an adapter; does nothing if there is no such pin."""
        self._prefetches.unpin(message.digest, message.tenant)
        self.tiers.slots.unpin(message.digest, message.tenant)

    def forget(self, message: ForgetAdapter) -> None:
        """Drop an adapter from every tier once no running or waiting sequence uses it; its pins end at once."""
        self._prefetches.unpin(message.digest)
        self.tiers.forget(message.digest)

    # --- steps ---------------------------------------------------------------------------------------------------

    def step(self) -> list[Output]:
        """Schedule, run, commit; returns the outputs since the last step."""
        batch = self.begin()
        if batch is not None:
            self.finish(self._run(batch))
        return self.take_outputs()

    def begin(self) -> Batch | None:
        """Schedule a step; the batch, if there is one, is in flight until `finish` receives its outcome."""
        began = time.monotonic()
        self._news = False
        self._poll_loads()
        batch = self.scheduler.schedule(self._prefetches.waiting_for_slots())
        for sequence in self.scheduler.hopeless:
            self._fail(sequence, "server_overloaded", NO_ROOM)
        if not batch.rows:
            self._sweep()
            return None
        self._flight = Flight(batch, began, time.monotonic())
        return batch

    def _run(self, batch: Batch) -> Seq[RowResult] | Exception:
        try:
            return self.runner.run(batch)
        except Exception as error:  # noqa: BLE001 - `finish` handles a failed step
            return error

    def finish(self, outcome: Seq[RowResult] | BaseException) -> None:
        """Commit the results of the step in flight, or fail its rows with the error it raised.

        Raises:
            EngineBrokenError: too many consecutive steps have failed, or the error is not an `Exception`.
        """
        if self._flight is None:
            raise RuntimeError("no step is in flight")
        ran = time.monotonic()
        flight, self._flight = self._flight, None
        for sequence in self._leaving.values():
            self.scheduler.retire(sequence)
        self._leaving.clear()
        results = self._failed_steps.results(flight.batch, outcome)
        if results is None:
            self._fail_rows(flight.batch)
        else:
            self._commit(flight.batch, results)
        self.accounts.land()
        self._steps.append(flight.report(ran))
        self.scheduler.background.finished(flight.batch, ran - flight.scheduled)
        self._sweep()

    def take_outputs(self) -> list[Output]:
        """Return the outputs since the last call."""
        outputs, self._outputs = self._outputs, []
        self.accounts.said()
        return outputs

    def _poll_loads(self) -> None:
        for digest, error in self.tiers.poll_loads().items():
            self._fail_waiters(digest, error)
        self._outputs += self._prefetches.poll()
        for sequence, fault in self._grammars.poll():
            if self._by_request.get(sequence.request_id) is sequence:
                self._fail(sequence, "invalid_request_error", f"the grammar cannot be enforced: {fault}")

    def _sweep(self) -> None:
        if self.tiers.wants_sweep:
            for digest in self.tiers.sweep(self.scheduler.needed_digests() | self._prefetches.digests()):
                self.scheduler.kv_cache.forget(digest)

    def _fail_rows(self, batch: Batch) -> None:
        """Fail the requests of a step that failed as a whole; nothing of it counts as computed."""
        for row in batch.rows:
            sequence = self.scheduler.running.get(row.sequence_id)
            if sequence is not None:
                self._fail(sequence, "internal_error", "the step that held this request failed")

    def _commit(self, batch: Batch, results: Seq[RowResult]) -> None:
        for row, result in zip(batch.rows, results, strict=True):
            running = self.scheduler.running.get(row.sequence_id)
            sequence = self.accounts.commit(row, result) if running is None else running
            if row.drafts and sequence is not None:
                self.scheduler.judge_drafts(sequence, row, result)
            if running is not None:
                self._commit_row(running, row, result)

    def _commit_row(self, sequence: Sequence, row: BatchRow, result: RowResult) -> None:
        if sequence.num_outputs == 0:  # recomputing after a preemption yields them again
            sequence.prompt_logprobs.extend(result.prompt_logprobs)
        match result.result:
            case RowFailed() as failure:
                sequence.read_up_to(row.end)
                self._numerical_errors += failure.code == NumericalError.code
                self._fail(sequence, failure.code, failure_text(sequence, failure))
            case Sampled():
                self._commit_tokens(sequence, result)
            case Scored() | Pooled():
                self.scheduler.commit(sequence, row.end)
                self._finish(sequence, result_output(sequence, result.result))
            case None if row.drafts:  # its results do not count
                pass
            case None:  # a chunk of a prompt
                self.scheduler.commit(sequence, row.end)
            case _:
                assert_never(result.result)

    def _commit_tokens(self, sequence: Sequence, result: RowResult) -> None:
        """Commit a row's token and those that its drafts yielded: one output per token, until the generation ends.

        All but the last token are then computed; the states after that are those of a wrong draft and get overwritten.
        """
        first = sequence.num_outputs == 0
        try:
            gained, reason = sequence.gain(result.tokens, self.limits.eos_ids)
        except GrammarError as error:
            self._fail(sequence, "internal_error", str(error))
            return
        self.scheduler.commit(sequence, len(sequence.tokens) - 1)
        for sampled in gained[:-1]:
            self._outputs.append(token_output(sequence, sampled, None, first=first))
            first = False
        output = token_output(sequence, gained[-1], reason, first=first)
        if reason is None:
            self._outputs.append(output)
        else:
            self._finish(sequence, output)

    def _finish(self, sequence: Sequence, output: Output) -> None:
        del self._by_request[sequence.request_id]
        self._retire(sequence)
        self._outputs.append(output)
        self.accounts.ended(sequence)

    def _fail(self, sequence: Sequence, code: str, message: str) -> None:
        self._log.warning(
            "request failed",
            request_id=sequence.request_id,
            tenant=sequence.tenant,
            adapter=adapter_name(sequence),
            digest=sequence.digest,
            code=code,
        )
        self._finish(sequence, failed(sequence, code, message))

    def _fail_waiters(self, digest: str, error: AdapterLoadError) -> None:
        self._log.error("adapter load failed", digest=digest, reason=str(error))
        code, text = error.code, f"the adapter could not be loaded: {error}"
        waiting = self.scheduler.waiting.values()
        for sequence in [s for s in waiting if any(ref.digest == digest for ref in s.adapters)]:
            self._fail(sequence, code, text)
        self._outputs += self._prefetches.fail(code, text, digest=digest)

    # --- state ---------------------------------------------------------------------------------------------------

    def take_numerical_errors(self) -> int:
        """Return how many sequences have failed since the last call because of numbers that were not finite."""
        count, self._numerical_errors = self._numerical_errors, 0
        return count

    def take_steps(self) -> list[StepReport]:
        """Return the reports of the steps since the last call."""
        steps, self._steps = self._steps, []
        return steps

    @property
    def loads_open(self) -> set[str]:
        """The adapters of open load requests, which are not on the device yet."""
        return self._prefetches.digests()

    @property
    def idle(self) -> bool:
        """Whether there is nothing to compute, load or send."""
        unsaid = self._outputs or self.accounts
        return not (unsaid or self._flight or self._by_request or self._prefetches or self.tiers.busy)

    @property
    def stalled(self) -> bool:
        """Whether the last step found nothing to compute and no message has arrived since.

        Then the engine can only wait for an adapter or a grammar that is being prepared.
        """
        on_its_way = self.tiers.num_loading or self._grammars.num_pending
        return not (self.scheduler.running or self._outputs or self._news) and on_its_way > 0

    def shut_down(self, reason: str) -> list[Output]:
        """End all open requests and loads with `engine_unavailable`; returns the remaining outputs."""
        for sequence in list(self._by_request.values()):
            self._finish(sequence, failed(sequence, "engine_unavailable", reason))
        self._outputs += self._prefetches.fail("engine_unavailable", reason)
        return self.take_outputs()

    def check_integrity(self) -> None:
        """Check all accounting.

        Raises:
            RuntimeError: the accounting is broken.
        """
        self.scheduler.check_integrity()
        self._grammars.check_integrity()
        sequences = [*self.scheduler.waiting.values(), *self.scheduler.running.values()]
        known = {s.request_id for s in sequences if s.sequence_id not in self._leaving}
        if known != self._by_request.keys() or any(name != s.request_id for name, s in self._by_request.items()):
            raise RuntimeError("the open requests are not those scheduled")
        if any(name in self._prefetches for name in self._by_request):
            raise RuntimeError("a request and a load share an id")
        if self._leaving and self._flight is None:
            raise RuntimeError("sequences wait for a step to land, and none is in flight")

    def close(self) -> None:
        """Stop the threads that load adapters and compile grammars."""
        self.tiers.close()
        self._grammars.close()
