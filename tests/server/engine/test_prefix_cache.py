"""Nothing is computed twice for the same tenant and adapter, and answers do not change."""

import pytest

from harness.engine.engines import Bench, adapter, classify, embed, generate
from headmix_server.core.messages import Classified, Embedded, ForgetAdapter, Generate, Output, Request, TokenOutput
from headmix_server.core.runner import Batch
from headmix_server.core.types import AdapterRef, EmbeddingParams
from headmix_server.engine.fake_runner import fake_probs, fake_vector
from headmix_server.engine.report import make_report
from tests.server.engine.conftest import MakeBench

A, B, C2 = adapter("a"), adapter("b"), adapter("c2")
PROMPT = list(range(18))
LAST = EmbeddingParams(pooling="last", normalize=True)


def serve(bench: Bench, message: Request) -> int:
    """Serve one request alone and return how many tokens were computed for it."""
    before = bench.runner.num_computed
    bench.submit(message)
    bench.drain()
    if isinstance(message, Generate):
        bench.assert_answered(message)
    return bench.runner.num_computed - before


def cached_tokens(outputs: list[Output]) -> list[int | None]:
    return [output.cached_tokens for output in outputs if isinstance(output, TokenOutput)]


@pytest.mark.parametrize("ref", [None, A], ids=["base", "adapter"])
def test_a_prompt_served_before_is_not_computed_again(make_bench: MakeBench, ref: AdapterRef | None) -> None:
    bench = make_bench()
    assert serve(bench, generate("first", PROMPT, ref, max_tokens=1)) == 18
    assert serve(bench, generate("again", PROMPT, ref, max_tokens=1)) == 2
    assert serve(bench, generate("longer", [*PROMPT, 50, 51], ref, max_tokens=1)) == 4
    assert serve(bench, generate("other", [50, *PROMPT], ref, max_tokens=1)) == 19


def test_the_last_token_of_a_prompt_is_always_computed(make_bench: MakeBench) -> None:
    bench = make_bench(block_size=4)
    serve(bench, generate("first", PROMPT[:16], max_tokens=1))
    assert serve(bench, generate("again", PROMPT[:16], max_tokens=1)) == 4
    assert serve(bench, generate("longer", PROMPT[:17], max_tokens=1)) == 1


def test_the_next_turn_of_a_conversation_finds_the_answer_too(make_bench: MakeBench) -> None:
    bench = make_bench()
    serve(bench, generate("turn", PROMPT, A, max_tokens=12))
    history = [*PROMPT, *bench.tokens("turn")]
    assert serve(bench, generate("next", [*history, 7, 7], A, max_tokens=1)) == 32 - 28
    assert cached_tokens(bench.outputs["next"]) == [28]


def test_requests_that_run_together_share_what_the_first_has_computed(make_bench: MakeBench) -> None:
    bench = make_bench()
    messages = [generate(f"r{n}", PROMPT, A, max_tokens=20) for n in range(4)]
    bench.submit(messages[0])
    bench.run_until(lambda: bool(bench.tokens("r0")))
    bench.submit(*messages[1:])
    bench.step()
    assert [row.count for row in bench.batches[-1].rows] == [1, 2, 2, 2]
    assert bench.engine.scheduler.kv_cache.usage == (5 + 3 * 1) / bench.limits.kv_blocks
    bench.drain()
    bench.assert_answered(*messages)


def test_how_much_is_computed_tells_nobody_what_another_tenant_or_adapter_has_asked(make_bench: MakeBench) -> None:
    bench, fresh = make_bench(), make_bench()
    for ref in (None, A):
        serve(bench, generate(f"known-{ref}", PROMPT, ref, tenant="t"))
    for number, (tenant, ref) in enumerate([("u", None), ("u", A), ("t", B), ("t'", None)]):
        message = generate(f"r{number}", PROMPT, ref, tenant=tenant)
        for each in (bench, fresh):
            serve(each, message)
        steps = len(fresh.batches)
        seen = [[(row.start, row.count) for row in batch.rows] for batch in bench.batches[-steps:]]
        assert seen[-4:] == [[(row.start, row.count) for row in batch.rows] for batch in fresh.batches[-4:]]
        assert cached_tokens(bench.outputs[f"r{number}"])[0] == 0


def test_who_needs_every_state_computes_every_token(make_bench: MakeBench) -> None:
    bench = make_bench()
    for ref in (None, C2):
        serve(bench, embed(f"warm-{ref}", PROMPT, ref))
    assert serve(bench, classify("classify", PROMPT, C2)) == 18
    assert serve(bench, embed("mean", PROMPT)) == 18
    assert serve(bench, generate("scored", PROMPT, max_tokens=2, prompt_logprobs=True, logprobs=0)) == 19
    end = bench.terminal("classify")
    assert isinstance(end, Classified)
    assert tuple(end.probs) == fake_probs(C2.digest, tuple(PROMPT), 2)
    first = bench.outputs["scored"][0]
    assert isinstance(first, TokenOutput)
    assert [entry.token for entry in first.prompt_logprobs or ()] == PROMPT[1:]


def test_an_embedding_of_the_last_state_needs_no_more_than_that(make_bench: MakeBench) -> None:
    bench = make_bench()
    serve(bench, generate("warm", PROMPT, A, max_tokens=1))
    assert serve(bench, embed("last", PROMPT, A, LAST)) == 2
    end = bench.terminal("last")
    assert isinstance(end, Embedded)
    assert tuple(end.vector) == fake_vector(A.digest, tuple(PROMPT), LAST)


def test_an_encoder_and_an_engine_without_the_cache_compute_everything(make_bench: MakeBench) -> None:
    for bench in (make_bench(whole_prompts=True), make_bench(prefix_cache=False)):
        for number in range(2):
            assert serve(bench, embed(f"r{number}", PROMPT, None, LAST)) == 18
        assert make_report(bench.engine).prefix_queries == 0


def test_a_preempted_sequence_finds_what_is_left_of_it(make_bench: MakeBench) -> None:
    bench = make_bench(kv_blocks=8, max_model_len=32)
    messages = [generate(f"r{n}", [n] * 8, A, max_tokens=12) for n in range(2)]
    bench.submit(*messages)
    bench.drain()
    bench.assert_answered(*messages)
    cold = make_bench(kv_blocks=8, max_model_len=32, prefix_cache=False)
    cold.submit(*messages)
    cold.drain()
    assert bench.runner.num_computed < cold.runner.num_computed


def test_a_scored_prompt_that_was_preempted_after_its_first_token_finds_what_is_left_of_it(
    make_bench: MakeBench,
) -> None:
    bench = make_bench()
    message = generate("r", PROMPT, max_tokens=4, prompt_logprobs=True, logprobs=0)
    bench.submit(message)
    bench.run_until(lambda: bool(bench.tokens("r")))
    (sequence,) = bench.engine.scheduler.running.values()
    bench.engine.scheduler.preempt(sequence)
    bench.step()
    assert [(row.start, row.count) for row in bench.batches[-1].rows] == [(16, 3)]
    bench.drain()
    bench.assert_answered(message)


def test_what_a_failed_step_left_is_never_found(make_bench: MakeBench) -> None:
    broken = [True]

    def hold(batch: Batch) -> None:
        if broken.pop():
            raise RuntimeError("the device hiccups")
        broken.append(False)

    broken[:] = [False, True]
    bench = make_bench(hold=hold)
    bench.submit(generate("fails", PROMPT, A))
    bench.drain()
    assert bench.failure("fails") == "internal_error"
    assert serve(bench, generate("again", PROMPT, A, max_tokens=1)) == 18


def test_a_row_that_failed_alone_leaves_nothing_to_be_found(make_bench: MakeBench) -> None:
    bench = make_bench(max_batch_tokens=12)
    bench.warm(A)
    bench.submit(generate("fails", PROMPT, A))
    (slot,) = bench.runner._slots
    held = bench.runner._slots.pop(slot)
    bench.drain()
    assert bench.failure("fails") == "internal_error"
    bench.runner._slots[slot] = held
    assert serve(bench, generate("again", PROMPT, A, max_tokens=1)) == 18


def test_a_forgotten_adapters_blocks_are_dropped_and_nobody_elses(make_bench: MakeBench) -> None:
    bench = make_bench()
    for ref in (A, B, None):
        serve(bench, generate(f"warm-{ref}", PROMPT, ref, max_tokens=1))
    bench.engine.forget(ForgetAdapter(digest=A.digest))
    bench.drain()
    assert serve(bench, generate("a", PROMPT, A, max_tokens=1)) == 18
    assert serve(bench, generate("b", PROMPT, B, max_tokens=1)) == 2
    assert serve(bench, generate("base", PROMPT, max_tokens=1)) == 2


def test_look_ups_are_counted_in_tokens_once_a_request(make_bench: MakeBench) -> None:
    bench = make_bench(kv_blocks=8, max_model_len=32)
    serve(bench, generate("first", PROMPT, max_tokens=1))
    serve(bench, generate("again", PROMPT, max_tokens=1))
    serve(bench, embed("mean", PROMPT))
    report = make_report(bench.engine)
    assert (report.prefix_queries, report.prefix_hits) == (36, 16)
    bench.submit(*(generate(f"r{n}", [n] * 8, A, max_tokens=12) for n in range(2)))
    bench.drain()
    report = make_report(bench.engine)
    assert (report.prefix_queries, report.prefix_hits) == (16, 0)
