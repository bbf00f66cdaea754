"""A grammar decides which tokens its request gets, and delays nobody else."""

import threading
from dataclasses import replace

from harness.engine.engines import LIMITS, Bench, adapter, generate
from harness.engine.listed_grammar import ListedCompiler
from headmix_server.core.messages import Abort, Failed, TokenOutput
from headmix_server.core.types import FinishReason
from headmix_server.engine.config import EngineConfig
from headmix_server.engine.grammars import Grammars
from headmix_server.engine.sequence import Sequence


def bench_with(compiler: ListedCompiler | None = None, limits: EngineConfig = LIMITS) -> Bench:
    return Bench(limits, compiler=compiler or ListedCompiler())


def ended_because(bench: Bench, request_id: str) -> FinishReason | None:
    output = bench.terminal(request_id)
    assert isinstance(output, TokenOutput)
    return output.finish_reason


def why_failed(bench: Bench, request_id: str) -> str:
    output = bench.terminal(request_id)
    assert isinstance(output, Failed)
    return f"{output.code}: {output.message}"


def test_every_token_is_one_the_grammar_allows_and_its_end_is_the_generations() -> None:
    bench = bench_with()
    bench.submit(generate("g", [1, 2], grammar="7|8|9", max_tokens=50, ignore_eos=True))
    bench.drain()
    assert bench.tokens("g") == [7, 8, 9]
    assert ended_because(bench, "g") == FinishReason.STOP
    bench.close()


def test_neighbours_get_the_tokens_they_get_alone() -> None:
    bench = bench_with()
    free = [generate(f"f{place}", [place + 1, 5], adapter("a") if place % 2 else None) for place in range(4)]
    bound = [generate(f"g{place}", [3, place], grammar="1,2,3|4,5|6") for place in range(4)]
    bench.submit(*free, *bound)
    bench.drain()
    bench.assert_answered(*free)
    for message in bound:
        first, second, third = bench.tokens(message.request_id)
        assert (first in {1, 2, 3}, second in {4, 5}, third) == (True, True, 6)
    bench.close()


def test_the_most_tokens_cut_a_text_whose_grammar_goes_on() -> None:
    bench = bench_with()
    bench.submit(generate("g", [1], grammar="7|8|9", max_tokens=2))
    bench.drain()
    assert (bench.tokens("g"), ended_because(bench, "g")) == ([7, 8], FinishReason.LENGTH)
    bench.close()


def test_a_slow_grammar_delays_its_own_request_alone() -> None:
    compiler = ListedCompiler(gates={"7|8": threading.Event()})
    bench = bench_with(compiler)
    bench.submit(generate("slow", [1], grammar="7|8"), generate("quick", [1], grammar="5|6"), generate("free", [1]))
    bench.run_until(lambda: {"quick", "free"} <= bench.outputs.keys() and bench.engine.stalled)
    assert "slow" not in bench.outputs
    compiler.gates["7|8"].set()
    bench.drain()
    assert bench.tokens("slow") == [7, 8]
    bench.close()


def test_a_faulty_grammar_fails_all_who_asked_for_it_and_nobody_else() -> None:
    bench = bench_with()
    bench.submit(*(generate(f"bad{place}", [1], grammar="x") for place in range(2)), generate("good", [1]))
    bench.drain()
    for place in range(2):
        assert why_failed(bench, f"bad{place}").startswith(
            "invalid_request_error: the grammar cannot be enforced: faulty"
        )
    bench.assert_answered(generate("good", [1]))
    bench.close()


def test_a_grammar_that_becomes_too_complex_fails_its_request_alone() -> None:
    bench = bench_with()
    bench.submit(generate("bad", [1], grammar="7||8"), generate("good", [1]))
    bench.drain()
    assert why_failed(bench, "bad").endswith("the grammar cannot be enforced any further: too complex")
    bench.assert_answered(generate("good", [1]))
    bench.close()


def test_without_a_compiler_a_grammar_is_refused() -> None:
    bench = Bench(LIMITS)
    bench.submit(generate("g", [1], grammar="7"))
    bench.drain()
    assert why_failed(bench, "g") == "invalid_request_error: this server cannot enforce a grammar"
    bench.close()


def test_an_aborted_request_whose_grammar_is_being_compiled_leaves_nothing() -> None:
    compiler = ListedCompiler(gates={"7": threading.Event()})
    bench = bench_with(compiler)
    bench.submit(generate("g", [1], grammar="7"))
    bench.engine.abort(Abort(request_id="g"))
    compiler.gates["7"].set()
    bench.submit(generate("h", [1], grammar="7"))
    bench.drain()
    assert bench.tokens("h") == [7]
    assert "g" not in bench.outputs
    assert compiler.compiled == [("7", None)]
    bench.close()


def test_a_preempted_request_goes_on_where_its_grammar_was() -> None:
    grammar = "|".join(str(place) for place in range(1, 40))
    bench = bench_with(limits=replace(LIMITS, kv_blocks=16, prefix_cache=False))
    messages = [generate(f"g{place}", [1] * 8, grammar=grammar, max_tokens=39) for place in range(4)]
    bench.submit(*messages)
    bench.drain()
    for message in messages:
        assert bench.tokens(message.request_id) == list(range(1, 40))
    starts = [row.sequence_id for batch in bench.batches for row in batch.rows if row.start == 0]
    assert len(starts) > len(messages)
    bench.close()


def test_a_grammar_is_compiled_once_for_a_base_and_once_for_each_adapter() -> None:
    compiler = ListedCompiler()
    bench = bench_with(compiler)
    for place, ref in enumerate([None, adapter("a"), None, adapter("a"), adapter("b")]):
        bench.submit(generate(f"g{place}", [1], ref, grammar="7|8"))
        bench.drain()
    assert compiler.compiled == [("7|8", None), ("7|8", adapter("a").digest), ("7|8", adapter("b").digest)]
    bench.close()


def test_the_texts_of_the_grammars_kept_stay_below_a_limit() -> None:
    compiler = ListedCompiler()
    grammars = Grammars(compiler, kept_bytes=3 * 2**13)
    try:
        for grammar in ["1", "2", "3", "1", "4", "1", "2"]:
            sequence = Sequence.from_message(0, generate("g", [1], grammar=grammar), 0.0)
            grammars.prepare(sequence)
            while sequence.awaits_grammar:
                assert list(grammars.poll()) == []
            grammars.check_integrity()
    finally:
        grammars.close()
    assert [grammar for grammar, _ in compiler.compiled] == ["1", "2", "3", "4", "2"]
