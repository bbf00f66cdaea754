"""The engine: requests in, outputs out, one step at a time.

A step is three verbs: schedule, run, commit. The engine knows requests and messages; the scheduler knows holds, the
runner knows tensors. It runs on one thread.
"""

import itertools
import time
from collections.abc import Callable
from collections.abc import Sequence as Seq
from dataclasses import dataclass

from headmix_server.core.logging import get_logger
from headmix_server.core.messages import (
    Abort,
    AdapterLoaded,
    Classified,
    Embedded,
    Failed,
    ForgetAdapter,
    Generate,
    LoadAdapter,
    Output,
    Request,
    StepReport,
    TokenOutput,
)
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
from headmix_server.engine.kv_cache import KVCache
from headmix_server.engine.scheduler import SLOT_PATIENCE_SECONDS, Scheduler
from headmix_server.engine.sequence import Sequence
from headmix_server.engine.tiers import AdapterTiers

MAX_FAILED_STEPS = 3
"""Steps in a row that may fail whole before the engine gives itself up to be replaced."""


class EngineBrokenError(Exception):
    """The runner fails step after step; the process must be replaced."""


@dataclass(frozen=True, slots=True)
class EngineLimits:
    """The sizes an engine is built with; see `core.settings` for their meaning.

    `whole_prompts` is for encoders: a prompt is computed in one step or not at all, and nothing is generated.
    """

    max_model_len: int
    kv_blocks: int
    block_size: int
    max_batch_tokens: int
    max_running: int
    max_waiting: int
    adapter_slots: int
    host_adapters: int
    loader_threads: int
    eos_ids: frozenset[int]
    whole_prompts: bool = False
    prefix_cache: bool = True

    @property
    def longest(self) -> int:
        """The most tokens one sequence may have, prompt and output together."""
        limit = min(self.max_model_len, self.kv_blocks * self.block_size)
        return min(limit, self.max_batch_tokens) if self.whole_prompts else limit


class Engine:
    """Continuous batching over a runner."""

    def __init__(self, runner: Runner, limits: EngineLimits, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.limits = limits
        self.tiers = AdapterTiers(runner, limits.adapter_slots, limits.host_adapters, limits.loader_threads)
        self.scheduler = Scheduler(
            runner,
            KVCache(limits.kv_blocks, limits.block_size, prefix_cache=limits.prefix_cache and not limits.whole_prompts),
            self.tiers,
            max_batch_tokens=limits.max_batch_tokens,
            max_running=limits.max_running,
            whole_prompts=limits.whole_prompts,
            clock=clock,
        )
        self._runner = runner
        self._by_request: dict[str, Sequence] = {}
        self._prefetches: dict[str, tuple[LoadAdapter, float]] = {}
        self._outputs: list[Output] = []
        self._steps: list[StepReport] = []
        self._ids = itertools.count()
        self._failed_steps = 0
        self._news = False
        self._clock = clock
        self._log = get_logger("engine")

    # --- requests ------------------------------------------------------------------------------------------------

    def submit(self, message: Request) -> None:
        """Queue a request, or answer at once why it cannot be served."""
        self._news = True
        if fault := self._refusal(message):
            self._outputs.append(fault)
            return
        if message.adapter is not None:
            self.tiers.remember(message.adapter.digest)
            self.tiers.count_lookup(message.adapter.digest)
        sequence = Sequence.from_message(next(self._ids), message, self._clock())
        self._by_request[message.request_id] = sequence
        self.scheduler.add(sequence)

    def _refusal(self, message: Request) -> Failed | None:
        length = len(message.prompt) + (message.sampling.max_tokens if isinstance(message, Generate) else 0)
        limit = min(self.limits.longest, self.scheduler.kv_cache.max_tokens)
        code = text = ""
        if self._is_open(message.request_id):
            code, text = "internal_error", "this request id is in use"
        elif not message.prompt:
            code, text = "invalid_request_error", "the prompt is empty"
        elif isinstance(message, Generate) and self.limits.whole_prompts:
            code, text = "task_mismatch", "the base reads whole texts: it classifies and embeds, and does not generate"
        elif isinstance(message, Generate) and message.sampling.max_tokens < 1:
            code, text = "invalid_request_error", "max_tokens must be at least 1"
        elif length > limit:
            code, text = "context_length_exceeded", f"{length} tokens were asked for, {limit} is the most"
        elif len(self.scheduler.waiting) >= self.limits.max_waiting:
            code, text = "server_overloaded", "the queue is full"
        return Failed(request_id=message.request_id, code=code, message=text) if code else None

    def _is_open(self, request_id: str) -> bool:
        return request_id in self._by_request or request_id in self._prefetches

    def abort(self, message: Abort) -> None:
        """Drop a request and answer nothing more; one that has ended already is no error."""
        self._news = True
        self._outputs = [output for output in self._outputs if output.request_id != message.request_id]
        self._prefetches.pop(message.request_id, None)
        sequence = self._by_request.pop(message.request_id, None)
        if sequence is not None:
            self.scheduler.retire(sequence)

    def load(self, message: LoadAdapter) -> None:
        """Bring an adapter to the device; `AdapterLoaded` follows once it is there."""
        if self._is_open(message.request_id):
            text = "this request id is in use"
            self._outputs.append(Failed(request_id=message.request_id, code="internal_error", message=text))
            return
        self._news = True
        self.tiers.remember(message.adapter.digest)
        self._prefetches[message.request_id] = (message, self._clock())

    def forget(self, message: ForgetAdapter) -> None:
        """Drop an adapter from every tier once nothing runs or waits with it."""
        self.tiers.forget(message.digest)

    # --- steps ---------------------------------------------------------------------------------------------------

    def step(self) -> list[Output]:
        """Schedule, run, commit; returns everything there is to say since the last step."""
        began = time.monotonic()
        self._news = False
        self._settle()
        batch = self.scheduler.schedule(self._loads_waiting())
        if batch.rows:
            scheduled = time.monotonic()
            results = self._run(batch)
            ran = time.monotonic()
            self._commit(batch, results)
            self._record(batch, began, scheduled, ran)
        if self.tiers.wants_sweep:
            prefetched = {message.adapter.digest for message, _ in self._prefetches.values()}
            for digest in self.tiers.sweep(self.scheduler.needed_digests() | prefetched):
                self.scheduler.kv_cache.forget(digest)
        outputs, self._outputs = self._outputs, []
        return outputs

    def _settle(self) -> None:
        for digest, error in self.tiers.settle().items():
            self._fail_waiters(digest, error)
        for request_id, (message, began) in list(self._prefetches.items()):
            if self.tiers.prepare(message.adapter):
                del self._prefetches[request_id]
                seconds = self._clock() - began
                digest = message.adapter.digest
                self._outputs.append(AdapterLoaded(request_id=request_id, digest=digest, seconds=seconds))

    def _loads_waiting(self) -> int:
        """How many loads asked for by name have long lacked nothing but a slot."""
        patient = self._clock() - SLOT_PATIENCE_SECONDS
        waiting = {m.adapter.digest for m, began in self._prefetches.values() if began < patient}
        return sum(self.tiers.waits_for_slot(digest) for digest in waiting)

    def _run(self, batch: Batch) -> Seq[RowResult]:
        try:
            results = self._runner.run(batch)
            _check_results(batch, results)
        except Exception as error:
            self._failed_steps += 1
            self._log.exception("step failed", rows=len(batch.rows), failed_steps=self._failed_steps)
            if self._failed_steps >= MAX_FAILED_STEPS:
                raise EngineBrokenError(f"{MAX_FAILED_STEPS} steps failed in a row, the last with: {error}") from error
            return [
                RowResult(row.sequence_id, RowFailed("the step that held this request failed")) for row in batch.rows
            ]
        self._failed_steps = 0
        return results

    def _commit(self, batch: Batch, results: Seq[RowResult]) -> None:
        for row, result in zip(batch.rows, results, strict=True):
            sequence = self.scheduler.running[row.sequence_id]
            if isinstance(result.result, RowFailed):
                self._fail(sequence, "internal_error", result.result.message)
                continue
            self.scheduler.commit(sequence, row.end)
            if sequence.num_outputs == 0:  # recomputing after preemption yields them again
                sequence.prompt_logprobs.extend(result.prompt_logprobs)
            match result.result:
                case Sampled():
                    self._commit_token(sequence, result.result)
                case Scored(probs):
                    classified = Classified(
                        request_id=sequence.request_id, probs=list(probs), queue_seconds=sequence.queue_seconds
                    )
                    self._finish(sequence, classified)
                case Pooled(vector):
                    embedded = Embedded(
                        request_id=sequence.request_id, vector=list(vector), queue_seconds=sequence.queue_seconds
                    )
                    self._finish(sequence, embedded)

    def _commit_token(self, sequence: Sequence, sampled: Sampled) -> None:
        scored = sequence.sampling is not None and sequence.sampling.prompt_logprobs
        sequence.tokens.append(sampled.token)
        reason = sequence.finish_reason(self.limits.eos_ids)
        first = sequence.num_outputs == 1
        output = TokenOutput(
            request_id=sequence.request_id,
            tokens=[sampled.token],
            logprobs=None if sampled.logprob is None else [sampled.logprob],
            prompt_logprobs=sequence.prompt_logprobs if first and scored else None,
            finish_reason=reason,
            queue_seconds=sequence.queue_seconds if first else None,
            cached_tokens=sequence.num_cached if first else None,
        )
        if first:
            sequence.prompt_logprobs = []
        if reason is None:
            self._outputs.append(output)
        else:
            self._finish(sequence, output)

    def _finish(self, sequence: Sequence, output: Output) -> None:
        del self._by_request[sequence.request_id]
        self.scheduler.retire(sequence)
        self._outputs.append(output)

    def _fail(self, sequence: Sequence, code: str, message: str) -> None:
        self._log.warning(
            "request failed", request_id=sequence.request_id, tenant=sequence.tenant, digest=sequence.digest, code=code
        )
        self._finish(sequence, Failed(request_id=sequence.request_id, code=code, message=message))

    def _fail_waiters(self, digest: str, error: AdapterLoadError) -> None:
        self._log.error("adapter load failed", digest=digest, reason=str(error))
        code = "model_not_found" if error.missing else "internal_error"
        for sequence in [s for s in self.scheduler.waiting.values() if s.digest == digest]:
            self._fail(sequence, code, f"the adapter could not be loaded: {error}")
        for request_id, (message, _) in list(self._prefetches.items()):
            if message.adapter.digest == digest:
                del self._prefetches[request_id]
                text = f"the adapter could not be loaded: {error}"
                self._outputs.append(Failed(request_id=request_id, code=code, message=text))

    # --- state ---------------------------------------------------------------------------------------------------

    def _record(self, batch: Batch, began: float, scheduled: float, ran: float) -> None:
        self._steps.append(
            StepReport(
                schedule_seconds=scheduled - began,
                run_seconds=ran - scheduled,
                commit_seconds=time.monotonic() - ran,
                batch_tokens=batch.num_tokens,
                distinct_adapters=batch.distinct_adapters,
            )
        )

    def take_steps(self) -> list[StepReport]:
        """Return the reports of the steps since the last call."""
        steps, self._steps = self._steps, []
        return steps

    @property
    def idle(self) -> bool:
        """Whether there is nothing to compute, load or say."""
        return not (self._by_request or self._prefetches or self._outputs or self.tiers.busy)

    @property
    def stalled(self) -> bool:
        """Whether the last step found nothing to compute and nothing has been asked since: only a load can help."""
        return not (self.scheduler.running or self._outputs or self._news) and self.tiers.num_loading > 0

    def shut_down(self, reason: str) -> list[Output]:
        """End everything that is open with `engine_unavailable`; returns what there is left to say."""
        for sequence in list(self._by_request.values()):
            self._finish(sequence, Failed(request_id=sequence.request_id, code="engine_unavailable", message=reason))
        for request_id in self._prefetches:
            self._outputs.append(Failed(request_id=request_id, code="engine_unavailable", message=reason))
        self._prefetches.clear()
        outputs, self._outputs = self._outputs, []
        return outputs

    def check_integrity(self) -> None:
        """Check every account.

        Raises:
            RuntimeError: the accounting is broken.
        """
        self.scheduler.check_integrity()
        known = {s.request_id for s in (*self.scheduler.waiting.values(), *self.scheduler.running.values())}
        if known != self._by_request.keys():
            raise RuntimeError("the open requests are not those scheduled")

    def close(self) -> None:
        """Stop the loader threads."""
        self.tiers.close()


def _check_results(batch: Batch, results: Seq[RowResult]) -> None:
    """Hold a runner to its contract: a result for every row, in order, and of the right kind where one is due."""
    if [row.sequence_id for row in batch.rows] != [result.sequence_id for result in results]:
        raise RuntimeError("the runner's results are not those of the batch's rows")
    for row, result in zip(batch.rows, results, strict=True):
        if not isinstance(result.result, (RowFailed, _due(row) if row.samples else type(None))):
            raise RuntimeError(f"the runner answered a row with {type(result.result).__name__}")  # noqa: TRY004 - no argument's type


def _due(row: BatchRow) -> type[Sampled] | type[Pooled] | type[Scored]:
    if row.sampling is not None:
        return Sampled
    return Scored if row.embedding is None else Pooled
