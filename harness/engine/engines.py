"""An engine on the fake runner with a fake disk, a clock and a record of its batches; and the answers it must give."""

import hashlib
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence

from harness.engine.listed_grammar import listed
from harness.engine.witness_runner import WitnessRunner
from headmix_server.core.combination import Combination, combination_of
from headmix_server.core.grammar import GrammarCompiler, GrammarError
from headmix_server.core.messages import (
    AdapterLoaded,
    Classified,
    Classify,
    Embed,
    Embedded,
    Failed,
    Generate,
    LoadAdapter,
    Output,
    Request,
    TokenOutput,
)
from headmix_server.core.runner import Batch, BatchRow, RowFailed, RowResult, masks_of
from headmix_server.core.types import (
    AdapterRef,
    EmbeddingParams,
    FinishReason,
    SamplingParams,
    ScaledAdapter,
    TokenCounts,
)
from headmix_server.engine.config import EngineConfig
from headmix_server.engine.fake_runner import FakeAdapter, allowed_tokens, fake_token
from headmix_server.engine.loop import Engine

Beside = Sequence[tuple[AdapterRef, float]]
"""Further adapters of a request, with their scales."""

GIVE_UP_SECONDS = 20.0
MEAN_OF_ONE = EmbeddingParams(pooling="mean", normalize=True)

LIMITS = EngineConfig(
    max_model_len=256,
    kv_blocks=64,
    block_size=4,
    max_batch_tokens=64,
    max_running=16,
    max_waiting=64,
    adapter_slots=4,
    host_adapters=8,
    loader_threads=2,
    eos_ids=frozenset(),
)


def adapter(name: str) -> AdapterRef:
    """Return a reference to an adapter that a `FakeDisk` serves; one named `c<n>...` has n labels, others generate."""
    digest = "sha256:" + hashlib.sha256(name.encode()).hexdigest()
    return AdapterRef(digest=digest, base="b", path=name, name=name, version=1, tenant="t")


def num_labels(ref: AdapterRef) -> int:
    """Return how many labels the adapter's head has."""
    return int(ref.name[1]) if ref.name.startswith("c") else 0


def generate(
    request_id: str,
    prompt: list[int],
    ref: AdapterRef | None = None,
    *,
    tenant: str = "t",
    weight: float = 1.0,
    scale: float = 1.0,
    beside: Beside = (),
    background: bool = False,
    **sampling: object,
) -> Generate:
    """Make a generation request of four tokens, unless `sampling` says otherwise."""
    params = SamplingParams(**({"max_tokens": 4} | sampling))  # type: ignore[arg-type]  # checked where tests read them
    return Generate(
        request_id=request_id,
        tenant=tenant,
        prompt=prompt,
        adapter=ref,
        sampling=params,
        weight=weight,
        scale=scale,
        beside=_scaled(beside),
        background=background,
    )


def classify(
    request_id: str,
    prompt: list[int],
    ref: AdapterRef,
    *,
    scale: float = 1.0,
    beside: Beside = (),
    background: bool = False,
) -> Classify:
    """Make a classification request."""
    return Classify(
        request_id=request_id,
        tenant="t",
        prompt=prompt,
        adapter=ref,
        scale=scale,
        beside=_scaled(beside),
        background=background,
    )


def embed(
    request_id: str,
    prompt: list[int],
    ref: AdapterRef | None = None,
    params: EmbeddingParams = MEAN_OF_ONE,
    *,
    scale: float = 1.0,
    beside: Beside = (),
    background: bool = False,
) -> Embed:
    """Make an embedding request."""
    return Embed(
        request_id=request_id,
        tenant="t",
        prompt=prompt,
        adapter=ref,
        params=params,
        scale=scale,
        beside=_scaled(beside),
        background=background,
    )


def _scaled(beside: Beside) -> tuple[ScaledAdapter, ...]:
    return tuple(ScaledAdapter(adapter=ref, scale=scale) for ref, scale in beside)


def load(request_id: str, ref: AdapterRef, *, pin: bool = False) -> LoadAdapter:
    """Make a request to load, and to pin."""
    return LoadAdapter(request_id=request_id, adapter=ref, pin=pin)


def refs_of(message: Request | LoadAdapter) -> tuple[AdapterRef, ...]:
    """Return all adapters that a message names."""
    if message.adapter is None:
        return ()
    beside = () if isinstance(message, LoadAdapter) else message.beside
    return (message.adapter, *(one.adapter for one in beside))


def adapters_of(message: Request) -> Combination:
    """Return what a request computes with."""
    scales = (message.scale, *(one.scale for one in message.beside))
    return combination_of((ref.digest, scale) for ref, scale in zip(refs_of(message), scales, strict=False))


def expected_generation(
    message: Generate, token_range: range, eos_ids: frozenset[int] = frozenset()
) -> tuple[list[int], FinishReason | None]:
    """Return the answer a request must get when computed alone, straight from the fake tokens.

    Without a reason it fails after these tokens, since its grammar cannot be enforced any further. A grammar is one of
    `ListedCompiler`'s.
    """
    adapters = adapters_of(message)
    history, sampling = tuple(message.prompt), message.sampling
    try:
        matcher = None if sampling.grammar is None else listed(sampling.grammar)
    except GrammarError:
        return [], None
    while True:
        try:
            allowed = token_range if matcher is None else allowed_tokens(matcher.allowed())
        except GrammarError:
            return list(history[len(message.prompt) :]), None
        token = fake_token(adapters, history, allowed)
        history = (*history, token)
        output = list(history[len(message.prompt) :])
        if matcher is not None and matcher.advance(token):
            return output, FinishReason.STOP
        if token in sampling.stop_token_ids or (token in eos_ids and not sampling.ignore_eos):
            return output, FinishReason.STOP
        if len(output) == sampling.max_tokens:
            return output, FinishReason.LENGTH


class FakeDisk:
    """Serves every adapter immediately, except those with a fault or behind a gate."""

    def __init__(self) -> None:
        self.faults: dict[str, Exception] = {}
        self.gates: dict[str, threading.Event] = {}
        self.sizes: dict[str, int] = {}
        self.opened: list[str] = []
        self.on_open: Callable[[], object] = lambda: None

    def gate(self, ref: AdapterRef) -> threading.Event:
        """Make loads of the adapter block until the event is set."""
        return self.gates.setdefault(ref.name, threading.Event())

    def open(self, ref: AdapterRef) -> FakeAdapter:
        """Load one adapter."""
        self.opened.append(ref.name)
        self.on_open()
        if ref.name in self.gates and not self.gates[ref.name].wait(GIVE_UP_SECONDS):
            raise TimeoutError("the test never opened the gate")
        if ref.name in self.faults:
            raise self.faults[ref.name]
        return FakeAdapter(ref.digest, num_labels(ref), self.sizes.get(ref.name, 0))


class Bench:
    """An engine that records every step and checks its accounts after every operation."""

    def __init__(
        self,
        limits: EngineConfig = LIMITS,
        token_range: range = range(1000),
        hold: Callable[[Batch], None] = lambda _: None,
        compiler: GrammarCompiler | None = None,
    ) -> None:
        self.now = 0.0
        self.disk = FakeDisk()
        self.batches: list[Batch] = []
        self.outputs: dict[str, list[Output]] = defaultdict(list)
        self.accounts: dict[str, list[TokenCounts]] = defaultdict(list)
        self.computed: dict[str, TokenCounts] = defaultdict(TokenCounts)
        self.token_range = token_range
        self.limits = limits
        self._hold = hold
        self.runner = WitnessRunner(token_range, open_adapter=self.disk.open, hold=self._observe)
        self.runner.block_size = limits.block_size
        self.engine = Engine(self.runner, limits, compiler=compiler, clock=lambda: self.now)
        self.in_flight: Batch | None = None

    def _observe(self, batch: Batch) -> None:
        self.batches.append(batch)
        self._hold(batch)
        for row in batch.rows:
            self._count(row)

    def _count(self, row: BatchRow) -> None:
        """Count what a row computes for its request, independently of the engine's own accounts."""
        request_id = self.engine.scheduler.running[row.sequence_id].request_id
        before = self.computed[request_id]
        self.computed[request_id] = TokenCounts(
            prompt=max(before.prompt, min(row.end, row.prompt_length)),
            generated=before.generated + self._count_tokens(row),
        )

    def _count_tokens(self, row: BatchRow) -> int:
        """Return how many tokens a row yields: one, and one for each right draft, up to the generation's end.

        A row whose grammar cannot be enforced any further yields none.
        """
        sampling = row.params
        masks = masks_of(row)
        if not row.samples or not isinstance(sampling, SamplingParams) or isinstance(masks[0], RowFailed):
            return 0
        ends = {*sampling.stop_token_ids, *(() if sampling.ignore_eos else self.limits.eos_ids)}
        for place, draft in enumerate(row.drafts):
            mask = masks[place]
            allowed = allowed_tokens(mask) if isinstance(mask, bytes) else self.token_range
            token = fake_token(row.combination, (*row.history, *row.drafts[:place]), allowed)
            if token != draft or token in ends:
                return place + 1
        return len(row.drafts) + 1

    def submit(self, *messages: Request | LoadAdapter) -> None:
        """Submit requests to the engine."""
        for message in messages:
            if isinstance(message, LoadAdapter):
                self.engine.load(message)
            else:
                self.engine.submit(message)
            self.engine.check_integrity()

    def step(self, times: int = 1) -> None:
        """Run steps, after finishing the one in flight."""
        self.finish()
        for _ in range(times):
            self._take(self.engine.step())

    def begin(self) -> None:
        """Put a step in flight, unless there is one or nothing to compute."""
        if self.in_flight is None:
            self.in_flight = self.engine.begin()
            self._take(self.engine.take_outputs())

    def finish(self) -> None:
        """Compute and finish the step in flight, if any; the runner sees whatever has changed in the meantime."""
        batch, self.in_flight = self.in_flight, None
        if batch is None:
            return
        outcome: list[RowResult] | Exception
        try:
            outcome = self.runner.run(batch)
        except Exception as error:  # noqa: BLE001 - reported to the engine, as in the server
            outcome = error
        self.engine.finish(outcome)
        self._take(self.engine.take_outputs())

    def _take(self, outputs: list[Output]) -> None:
        for output in outputs:
            self.outputs[output.request_id].append(output)
        for account in self.engine.accounts.take():
            self.accounts[account.request_id].append(account.counts)
        self.engine.check_integrity()
        assert self.runner.faults == []

    def run_until(self, done: Callable[[], bool]) -> None:
        """Step until a condition holds, waiting for loads as needed."""
        deadline = time.monotonic() + GIVE_UP_SECONDS
        while not done():
            self.step()
            if self.engine.stalled:
                time.sleep(0.0005)
            if time.monotonic() > deadline:
                raise TimeoutError("the engine never got there")

    def drain(self) -> None:
        """Step until there is nothing left to do."""
        self.run_until(lambda: self.engine.idle)
        scheduler = self.engine.scheduler
        assert scheduler.kv_cache.num_free == self.limits.kv_blocks
        assert scheduler.tiers.slots.lease_counts() == {}

    def warm(self, *refs: AdapterRef) -> None:
        """Load adapters onto the device."""
        self.submit(*(load(f"warm-{ref.name}", ref) for ref in refs))
        self.drain()

    def close(self) -> None:
        """Open every gate and stop the threads."""
        for gate in self.disk.gates.values():
            gate.set()
        self.engine.close()

    def tokens(self, request_id: str) -> list[int]:
        """Return the tokens a request has received so far."""
        return [t for o in self.outputs[request_id] if isinstance(o, TokenOutput) for t in o.tokens]

    def terminal(self, request_id: str) -> Output:
        """Return a request's only terminal output, checking that nothing followed it."""
        ends = [is_terminal(output) for output in self.outputs[request_id]]
        assert ends == [False] * (len(ends) - 1) + [True]
        return self.outputs[request_id][-1]

    def failure(self, request_id: str) -> str:
        """Return the code a request failed with."""
        output = self.terminal(request_id)
        assert isinstance(output, Failed)
        return output.code

    def assert_answered(self, *messages: Generate) -> None:
        """Check that each generation got exactly the tokens it gets when computed alone."""
        for message in messages:
            tokens, reason = expected_generation(message, self.token_range, self.limits.eos_ids)
            output = self.terminal(message.request_id)
            assert isinstance(output, TokenOutput), output
            assert (self.tokens(message.request_id), output.finish_reason) == (tokens, reason)


def is_terminal(output: Output) -> bool:
    """Return whether an output ends its request."""
    return isinstance(output, Classified | Embedded | Failed | AdapterLoaded) or output.finish_reason is not None
