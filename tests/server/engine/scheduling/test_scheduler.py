"""Which requests run in a step: decodes first, then first come, first served; and no adapter waits forever."""

import pytest

from harness.engine.engines import Bench, adapter, classify, generate, load
from headmix_server.core.runner import BatchRow
from headmix_server.core.types import ClassificationParams, Residency
from tests.server.engine.conftest import MakeBench

A, B, C2 = adapter("a"), adapter("b"), adapter("c2")


def rows(bench: Bench) -> list[tuple[int, int, bool]]:
    """Return the last batch's rows: sequence, tokens and whether a result is due."""
    return [(row.sequence_id, row.count, row.samples) for row in bench.batches[-1].rows]


def test_one_batch_holds_classification_prefill_decode_base_and_several_adapters(make_bench: MakeBench) -> None:
    bench = make_bench()
    bench.warm(A, B, C2)
    decoding = generate("decode", [1, 2], A)
    bench.submit(decoding)
    bench.step()
    prefilling, base = generate("prefill", [3] * 9, B), generate("base", [5])
    bench.submit(prefilling, base, classify("classify", [4, 4], C2))
    bench.step()
    assert [(row.count, isinstance(row.params, ClassificationParams)) for row in bench.batches[-1].rows] == [
        (1, False),
        (9, False),
        (1, False),
        (2, True),
    ]
    assert bench.batches[-1].distinct_adapters == 3
    bench.drain()
    bench.assert_answered(decoding, prefilling, base)


def test_decode_goes_before_prefill_and_prefill_gets_what_is_left_of_the_budget(make_bench: MakeBench) -> None:
    bench = make_bench(max_batch_tokens=8)
    bench.submit(generate("long", [1] * 30))
    bench.step()
    assert rows(bench) == [(0, 8, False)]
    bench.submit(generate("short", [2]))
    bench.step()
    assert rows(bench) == [(0, 8, False)]
    bench.step()
    assert rows(bench) == [(0, 8, False)]
    bench.step()
    assert rows(bench) == [(0, 6, True), (1, 1, True)]
    bench.submit(generate("late", [3] * 30))
    bench.step()
    assert rows(bench) == [(0, 1, True), (1, 1, True), (2, 6, False)]


def test_a_decoding_sequence_is_not_held_up_by_a_prefill_admitted_before_it(make_bench: MakeBench) -> None:
    bench = make_bench(max_batch_tokens=4)
    bench.submit(generate("quick", [1], max_tokens=20), generate("long", [2] * 40))
    for _ in range(10):
        bench.step()
        assert rows(bench)[0][0] == 0
        assert sum(count for _, count, _ in rows(bench)) == 4


def test_admission_is_first_come_first_served(make_bench: MakeBench) -> None:
    bench = make_bench(max_running=2)
    bench.submit(*(generate(f"r{n}", [n], max_tokens=2) for n in range(6)))
    seen = []
    while not bench.engine.idle:
        bench.step()
        seen.append([row.sequence_id for row in bench.batches[-1].rows])
    assert seen == [[0, 1], [0, 1], [2, 3], [2, 3], [4, 5], [4, 5]]


def test_a_request_that_does_not_fit_the_cache_is_not_overtaken(make_bench: MakeBench) -> None:
    bench = make_bench(kv_blocks=8, max_model_len=32)
    bench.submit(generate("first", [1] * 20), generate("large", [2] * 20), generate("small", [3]))
    bench.step()
    assert rows(bench) == [(0, 20, True)]
    bench.drain()
    assert [output.request_id for outputs in bench.outputs.values() for output in outputs[:1]] == [
        "first",
        "large",
        "small",
    ]


def test_a_cold_adapter_delays_nobody_else(make_bench: MakeBench) -> None:
    bench = make_bench(adapter_slots=1, kv_blocks=8, max_model_len=32)
    bench.warm(B)
    gate = bench.disk.gate(A)
    cold = generate("cold", [1] * 20, A)
    others = [generate("base", [2] * 20), generate("warm", [3] * 8, B)]
    bench.submit(cold, *others)
    bench.now += 10
    while not bench.outputs["warm"]:
        bench.step()
    bench.submit(generate("newcomer", [4], B))
    bench.run_until(lambda: len(bench.engine.scheduler.waiting) == 1 and not bench.engine.scheduler.running)
    bench.assert_answered(*others, generate("newcomer", [4], B))
    assert not bench.outputs["cold"]
    gate.set()
    bench.drain()
    bench.assert_answered(cold)


def test_adapters_load_while_the_engine_is_full(make_bench: MakeBench) -> None:
    bench = make_bench(max_running=1)
    bench.submit(generate("busy", [1], max_tokens=200), generate("next", [2]), generate("cold", [3], A))
    bench.step()
    assert bench.engine.tiers.num_loading == 1
    assert rows(bench) == [(0, 1, True)]


def test_more_adapters_than_slots_all_complete(make_bench: MakeBench) -> None:
    bench = make_bench(adapter_slots=2, host_adapters=1)
    messages = [generate(f"r{n}", [n], adapter(f"x{n % 9}"), max_tokens=1 + n % 5) for n in range(40)]
    bench.submit(*messages)
    bench.drain()
    bench.assert_answered(*messages)


def stream(bench: Bench, seconds: float) -> int:
    """Keep two overlapping requests for A running until the one for B is answered; return how many steps that took."""
    for n in range(200):
        bench.submit(generate(f"a{n}", [n], A, max_tokens=3))
        bench.now += seconds
        bench.step()
        if bench.outputs["patient"]:
            return n
    return 200


def test_a_queued_request_finds_its_adapter_in_its_slot_though_another_takes_one_first(make_bench: MakeBench) -> None:
    bench = make_bench(adapter_slots=2)
    for ref in (C2, A, B):
        bench.warm(ref)
    bench.engine.tiers.take_counts()
    bench.submit(classify("from-host", [1], C2), generate("on-device", [2], A))
    bench.drain()
    assert bench.engine.tiers.take_counts().evictions[Residency.DEVICE] == 1


@pytest.mark.parametrize(("seconds_a_step", "answered"), [(0.0, False), (0.1, True)])
def test_a_stream_for_one_adapter_cannot_keep_the_slot_from_another_forever(
    make_bench: MakeBench, seconds_a_step: float, answered: bool
) -> None:
    bench = make_bench(adapter_slots=1)
    bench.warm(B, A)
    bench.submit(generate("a", [1], A, max_tokens=3))
    bench.step()
    patient = generate("patient", [9], B)
    bench.submit(patient)
    assert (stream(bench, seconds_a_step) < 20) == answered
    bench.drain()
    bench.assert_answered(patient)


def test_requests_for_an_adapter_still_on_disk_drain_nobodys_slot(make_bench: MakeBench) -> None:
    bench = make_bench(adapter_slots=1)
    bench.warm(A)
    gate = bench.disk.gate(B)
    bench.submit(generate("a", [1], A, max_tokens=3), generate("patient", [9], B))
    assert stream(bench, 1.0) == 200
    assert len(bench.engine.scheduler.waiting) == 1
    gate.set()
    bench.drain()
    bench.assert_answered(generate("patient", [9], B))


def test_a_stream_for_one_adapter_cannot_keep_the_slot_from_a_load_forever(make_bench: MakeBench) -> None:
    bench = make_bench(adapter_slots=1)
    bench.warm(B, A)
    bench.submit(generate("a", [1], A, max_tokens=3))
    bench.step()
    bench.submit(load("patient", B))
    assert stream(bench, 0.1) < 20
    bench.drain()


@pytest.mark.parametrize("prefix_cache", [True, False])
def test_the_youngest_gives_way_and_recomputing_changes_no_token(make_bench: MakeBench, prefix_cache: bool) -> None:
    bench = make_bench(kv_blocks=6, max_model_len=24, prefix_cache=prefix_cache)
    messages = [generate(f"r{n}", [n] * 4, A if n % 2 else None, max_tokens=16) for n in range(3)]
    bench.submit(*messages)
    bench.drain()
    bench.assert_answered(*messages)
    starts = [(row.sequence_id, row.start) for batch in bench.batches for row in batch.rows]
    assert starts.count((0, 0)) == 1
    assert (max(starts.count((n, 0)) for n in (1, 2)) > 1) != prefix_cache
    computed = sum(batch.num_tokens for batch in bench.batches)
    assert computed > 3 * (4 + 15)


def test_a_preempted_sequence_goes_first_when_there_is_room_again(make_bench: MakeBench) -> None:
    bench = make_bench(kv_blocks=6, max_model_len=24, max_running=2, prefix_cache=False)
    bench.submit(*(generate(f"r{n}", [n] * 4, max_tokens=16) for n in range(3)))
    bench.drain()
    order = [row.sequence_id for batch in bench.batches for row in batch.rows if row.start == 0]
    assert order[:4] == [0, 1, 1, 2]


def test_prefill_never_gives_way_to_prefill(make_bench: MakeBench) -> None:
    bench = make_bench(kv_blocks=8, max_model_len=32, max_batch_tokens=4)
    bench.submit(*(generate(f"r{n}", [n] * 20, max_tokens=1) for n in range(4)))
    bench.drain()
    assert sum(batch.num_tokens for batch in bench.batches) == 4 * 20


def test_an_encoders_prompt_is_never_cut(make_bench: MakeBench) -> None:
    bench = make_bench(whole_prompts=True, max_batch_tokens=10)
    bench.submit(*(classify(f"r{n}", [n] * 6, C2) for n in range(3)), classify("long", [1] * 11, C2))
    bench.drain()
    assert [row.count for batch in bench.batches for row in batch.rows] == [6, 6, 6]
    assert bench.failure("long") == "context_length_exceeded"


def test_rows_share_the_sequences_tokens_and_cover_them_without_a_gap(make_bench: MakeBench) -> None:
    bench = make_bench(max_batch_tokens=5)
    bench.submit(generate("r", list(range(13)), A))
    bench.drain()
    parts: list[BatchRow] = [row for batch in bench.batches for row in batch.rows]
    assert [row.start for row in parts] == [0, 5, 10, 13, 14, 15]
    assert len({id(row.blocks) for row in parts}) == len({id(row.history) for row in parts}) == 1
    assert [list(row.tokens) for row in parts[:3]] == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9], [10, 11, 12]]
