"""The whole engine under random requests, aborts, slow and failing loads, grammars and steps: every answer is right."""

import threading
from collections import Counter
from dataclasses import replace

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from harness.engine.bold_lookup import BoldLookup
from harness.engine.engines import (
    LIMITS,
    Bench,
    Beside,
    adapter,
    adapters_of,
    classify,
    embed,
    expected_generation,
    generate,
    is_terminal,
    load,
    num_labels,
    refs_of,
)
from harness.engine.listed_grammar import ListedCompiler
from headmix_server.core.messages import (
    Abort,
    AdapterLoaded,
    Classified,
    Classify,
    Embed,
    Embedded,
    Failed,
    ForgetAdapter,
    Generate,
    LoadAdapter,
    Output,
    Request,
    TokenOutput,
    UnpinAdapter,
)
from headmix_server.core.runner import AdapterLoadError, Batch
from headmix_server.core.types import AdapterRef, TokenCounts
from headmix_server.engine.failed_steps import MAX_FAILED_STEPS
from headmix_server.engine.fake_runner import fake_probs, fake_vector
from headmix_server.engine.speculation.speculation import Speculation

TINY = replace(
    LIMITS,
    max_model_len=28,
    kv_blocks=8,
    block_size=4,
    max_batch_tokens=7,
    max_running=5,
    max_waiting=12,
    adapter_slots=2,
    host_adapters=2,
    device_adapter_bytes=5,
    host_adapter_bytes=9,
    eos_ids=frozenset({3}),
)
TOKENS = range(12)
GENERATORS = [adapter(name) for name in ("a", "b", "d", "e", "slow", "bad", "gone")]
CLASSIFIERS = [adapter(name) for name in ("c2", "c3", "c2-slow")]
LOAD_FAILURES = {"bad": "internal_error", "gone": "model_not_found"}
SIZES = {"a": 1, "b": 2, "d": 3, "e": 5, "slow": 2, "c2": 4, "c3": 1, "c2-slow": 2}
"""Sizes in bytes: the two slots hold two of them, or only one."""
PROMPTS = st.one_of(
    st.lists(st.integers(0, 11), min_size=1, max_size=18),
    st.builds(lambda same, rest: [*range(same), *rest], st.integers(4, 12), st.lists(st.integers(0, 1), max_size=6)),
)
"""Any prompts, and some with a common prefix, so that they share cache blocks."""
TENANTS = st.sampled_from(["t", "u"])
SCALES = st.sampled_from([1.0, 1.0, 0.5])
BESIDE = st.lists(st.tuples(st.sampled_from([*GENERATORS, *CLASSIFIERS]), SCALES), max_size=1)
"""A second adapter, or none: there are two slots."""
SLOW_GRAMMAR, FAULTY_GRAMMAR, STUCK_GRAMMAR = "2,3|2,3", "2|x", "2,3|3,2||2"
GRAMMARS = ("2|3|2,3", "2,3,9|0,1,2,3", "|".join(["2,4,5"] * 9), SLOW_GRAMMAR, FAULTY_GRAMMAR, STUCK_GRAMMAR)
"""As `ListedCompiler` reads them; token 3 may end a generation. One allows nothing at its third place."""


def without_cached(counts: TokenCounts) -> TokenCounts:
    """Return the counts without cached tokens, which the steps' rows do not distinguish."""
    assert counts.cached <= counts.prompt
    return msgspec.structs.replace(counts, cached=0)


class EngineMachine(RuleBasedStateMachine):
    """Random work for a tiny engine: two slots, eight blocks, seven tokens per step."""

    limits = TINY
    tokens = TOKENS

    @initialize()
    def build(self) -> None:
        self.compiler = ListedCompiler(gates={SLOW_GRAMMAR: threading.Event()})
        self.bench = Bench(self.limits, self.tokens, hold=self.before_step, compiler=self.compiler)
        self.bench.disk.faults = {
            "bad": AdapterLoadError("not an artifact"),
            "gone": AdapterLoadError("its file is missing", missing=True),
        }
        self.bench.disk.sizes = SIZES
        self.requests: dict[str, Request | LoadAdapter] = {}
        self.aborted: dict[str, int] = {}
        self.aborts = Counter[str]()
        self.broken: set[str] = set()
        self.unwanted: set[str] = set()
        self.break_next = False
        self.broken_in_a_row = 0

    def before_step(self, batch: Batch) -> None:
        assert batch.num_tokens <= TINY.max_batch_tokens
        assert all(row.count > 0 and len(row.blocks) * TINY.block_size >= row.end for row in batch.rows)
        if not self.break_next or self.broken_in_a_row == MAX_FAILED_STEPS - 1:
            self.broken_in_a_row = 0
        else:
            self.break_next = False
            self.broken_in_a_row += 1
            running = self.bench.engine.scheduler.running
            self.broken |= {running[row.sequence_id].request_id for row in batch.rows}
            raise RuntimeError("the device hiccups")

    def submit(self, message: Request | LoadAdapter) -> None:
        self.requests[message.request_id] = message
        for ref in refs_of(message):
            self.unwanted.discard(ref.digest)
        self.bench.submit(message)

    @rule(
        prompt=PROMPTS,
        ref=st.sampled_from([None, *GENERATORS]),
        scale=SCALES,
        beside=BESIDE,
        tenant=TENANTS,
        weight=st.sampled_from([0.5, 1.0, 3.0]),
        max_tokens=st.integers(1, 12),
        stop=st.lists(st.integers(0, 11), max_size=2),
        ignore_eos=st.booleans(),
        score=st.booleans(),
        grammar=st.none() | st.sampled_from(GRAMMARS),
        background=st.booleans(),
    )
    def generate(
        self,
        prompt: list[int],
        ref: AdapterRef | None,
        scale: float,
        beside: Beside,
        tenant: str,
        weight: float,
        max_tokens: int,
        stop: list[int],
        ignore_eos: bool,
        score: bool,
        grammar: str | None,
        background: bool,
    ) -> None:
        self.submit(
            generate(
                f"r{len(self.requests)}",
                prompt,
                ref,
                tenant=tenant,
                weight=weight,
                scale=1.0 if ref is None else scale,
                beside=() if ref is None else beside,
                max_tokens=max_tokens,
                stop_token_ids=tuple(stop),
                ignore_eos=ignore_eos,
                prompt_logprobs=score,
                logprobs=0,
                grammar=grammar,
                background=background,
            )
        )

    @rule(prompt=PROMPTS, ref=st.sampled_from(CLASSIFIERS), scale=SCALES, beside=BESIDE, background=st.booleans())
    def classify(self, prompt: list[int], ref: AdapterRef, scale: float, beside: Beside, background: bool) -> None:
        name = f"r{len(self.requests)}"
        self.submit(classify(name, prompt, ref, scale=scale, beside=beside, background=background))

    @rule(
        prompt=PROMPTS,
        ref=st.sampled_from([None, *GENERATORS, *CLASSIFIERS]),
        beside=BESIDE,
        background=st.booleans(),
    )
    def embed(self, prompt: list[int], ref: AdapterRef | None, beside: Beside, background: bool) -> None:
        name = f"r{len(self.requests)}"
        self.submit(embed(name, prompt, ref, beside=() if ref is None else beside, background=background))

    @rule(ref=st.sampled_from([*GENERATORS, *CLASSIFIERS]), pin=st.booleans(), tenant=TENANTS)
    def load(self, ref: AdapterRef, pin: bool, tenant: str) -> None:
        self.submit(load(f"r{len(self.requests)}", msgspec.structs.replace(ref, tenant=tenant), pin=pin))

    @rule(ref=st.sampled_from([*GENERATORS, *CLASSIFIERS]), tenant=TENANTS)
    def unpin(self, ref: AdapterRef, tenant: str) -> None:
        self.bench.engine.unpin(UnpinAdapter(digest=ref.digest, tenant=tenant))
        assert not self.bench.engine.tiers.slots._shares.has_pinned(tenant, ref.digest)

    @rule(age=st.integers(0, 8))
    def abort(self, age: int) -> None:
        self.abort_request(f"r{len(self.requests) - age}")

    @rule(index=st.integers(0, 4))
    def abort_in_flight(self, index: int) -> None:
        rows = () if self.bench.in_flight is None else self.bench.in_flight.rows
        if rows:  # no precondition: what is in flight depends on the progress of loads
            row = rows[index % len(rows)]
            self.abort_request(self.bench.engine.scheduler.running[row.sequence_id].request_id)

    def abort_request(self, request_id: str) -> None:
        self.bench.engine.abort(Abort(request_id=request_id))
        self.aborts[request_id] += 1
        if request_id in self.requests:
            self.aborted.setdefault(request_id, len(self.bench.outputs[request_id]))

    @rule(ref=st.sampled_from([*GENERATORS, *CLASSIFIERS]))
    def forget(self, ref: AdapterRef) -> None:
        self.unwanted.add(ref.digest)
        self.bench.engine.forget(ForgetAdapter(digest=ref.digest))

    @rule(ref=st.sampled_from([GENERATORS[4], CLASSIFIERS[2]]), slow=st.booleans())
    def change_disk(self, ref: AdapterRef, slow: bool) -> None:
        gate = self.bench.disk.gate(ref)
        if slow:
            gate.clear()
        else:
            gate.set()

    @rule(slow=st.booleans())
    def change_compiler(self, slow: bool) -> None:
        gate = self.compiler.gates[SLOW_GRAMMAR]
        if slow:
            gate.clear()
        else:
            gate.set()

    @rule(times=st.integers(1, 6), seconds=st.floats(0, 1))
    def step(self, times: int, seconds: float) -> None:
        self.bench.now += seconds
        self.bench.step(times)

    @rule()
    def begin(self) -> None:
        """Begin a step; messages before the next step or `finish` arrive while it computes."""
        self.bench.begin()

    @rule()
    def finish(self) -> None:
        self.bench.finish()

    @rule()
    def break_a_step(self) -> None:
        self.break_next = True

    @invariant()
    def accounts_are_whole(self) -> None:
        self.bench.engine.check_integrity()
        slots, held = self.bench.engine.tiers.slots, self.bench.runner._slots
        assert sorted(slots.digests()) == sorted(occupant.digest for _, occupant in held.values())
        assert self.bench.runner.adapter_bytes == slots.used_bytes <= TINY.device_adapter_bytes

    @invariant()
    def what_is_in_flight_keeps_its_holds(self) -> None:
        if self.bench.in_flight is not None:
            for row in self.bench.in_flight.rows:
                assert row.sequence_id in self.bench.engine.scheduler.running
                assert all(self.bench.engine.tiers.slots.is_current(lease) for lease in row.leases)

    def teardown(self) -> None:
        if not hasattr(self, "bench"):
            return
        for gate in (*self.bench.disk.gates.values(), *self.compiler.gates.values()):
            gate.set()
        self.bench.now += 1  # requests for several adapters have now waited long enough to have them gathered
        try:
            self.bench.drain()
            assert self.bench.engine.tiers.slots.num_pinned <= 1
            for request_id, message in self.requests.items():
                self.check(message, self.bench.outputs[request_id])
            assert {name: len(accounts) for name, accounts in self.bench.accounts.items()} == self.aborts
            residents = {*self.bench.engine.tiers.slots.digests(), *self.bench.engine.tiers.host.digests()}
            assert not residents & self.unwanted
        finally:
            self.bench.close()

    def check(self, message: Request | LoadAdapter, outputs: list[Output]) -> None:
        """Compare a request's outputs with what it would have got alone."""
        computed = self.bench.computed[message.request_id]
        if message.request_id in self.aborted:
            assert len(outputs) == self.aborted[message.request_id]
            if not (outputs and is_terminal(outputs[-1])):
                assert computed in map(without_cached, self.bench.accounts[message.request_id])
        else:
            end = self.bench.terminal(message.request_id)
            if isinstance(end, Failed):
                assert without_cached(end.counts) == computed
                assert end.code in self.possible_failures(message), end
            else:
                assert not any(ref.name in LOAD_FAILURES for ref in refs_of(message))
        if isinstance(message, Generate):
            self.check_tokens(message, [o for o in outputs if isinstance(o, TokenOutput)])
        elif isinstance(message, Classify):
            expected = fake_probs(adapters_of(message), tuple(message.prompt), num_labels(message.adapter))
            assert all(tuple(o.probs) == expected for o in outputs if isinstance(o, Classified))
        elif isinstance(message, Embed):
            vector = fake_vector(adapters_of(message), tuple(message.prompt), message.params)
            assert all(tuple(o.vector) == vector for o in outputs if isinstance(o, Embedded))
        else:
            assert all(isinstance(o, AdapterLoaded | Failed) for o in outputs)

    def possible_failures(self, message: Request | LoadAdapter) -> set[str]:
        codes = set[str]()
        codes |= {LOAD_FAILURES[ref.name] for ref in refs_of(message) if ref.name in LOAD_FAILURES}
        if message.request_id in self.broken:
            codes.add("internal_error")
        if isinstance(message, Generate) and message.sampling.grammar in (FAULTY_GRAMMAR, STUCK_GRAMMAR):
            codes.add("invalid_request_error")
        if isinstance(message, Generate) and len(message.prompt) + message.sampling.max_tokens > TINY.max_model_len:
            return {"context_length_exceeded"}
        beside_pins = TINY.device_adapter_bytes - TINY.device_adapter_bytes // 2
        is_large = message.adapter is not None and SIZES.get(message.adapter.name, 0) > beside_pins
        if not isinstance(message, LoadAdapter) or message.pin or is_large:
            codes.add("server_overloaded")
        return codes

    def check_tokens(self, message: Generate, outputs: list[TokenOutput]) -> None:
        expected, reason = expected_generation(message, self.tokens, TINY.eos_ids)
        got = [token for output in outputs for token in output.tokens]
        assert got == expected[: len(got)]
        ends = [reason if n == len(expected) else None for n in range(1, len(got) + 1)]
        assert [output.finish_reason for output in outputs] == ends
        scored = [entry.token for o in outputs for entry in o.prompt_logprobs or ()]
        assert scored == (message.prompt[1:] if outputs and message.sampling.prompt_logprobs else [])
        assert [o.queue_seconds is not None for o in outputs] == [n == 0 for n in range(len(outputs))]


EngineMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
TestEngine = EngineMachine.TestCase


class SpeculatingMachine(EngineMachine):
    """The same with guesses, some of which are right: there are two tokens, and one may end a generation."""

    limits = replace(TINY, speculative_tokens=5, eos_ids=frozenset({3}))
    tokens = range(2, 4)

    @initialize()
    def build(self) -> None:
        super().build()
        self.bench.engine.scheduler.speculation = Speculation(5, BoldLookup)


SpeculatingMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=60, deadline=None)
TestSpeculatingEngine = SpeculatingMachine.TestCase
