"""Background requests are computed where the others leave room, and make room for them."""

from harness.engine.engines import Bench, adapter, classify, embed, generate
from headmix_server.core.messages import Classified, Failed
from headmix_server.engine.scheduling.background_pace import (
    BUSY_SECONDS,
    QUIET_AFTER_SECONDS,
    QUIET_SECONDS,
    STEPS_BETWEEN,
    BackgroundPace,
)
from tests.server.engine.conftest import MakeBench

A, B, C2 = adapter("a"), adapter("b"), adapter("c2")


def names(bench: Bench, *, before: int = -1) -> list[str]:
    """Return the requests that run or that the last batch had a row of."""
    running = bench.engine.scheduler.running
    return [running[row.sequence_id].request_id for row in bench.batches[before].rows if row.sequence_id in running]


def test_a_background_request_pauses_while_another_is_computed(make_bench: MakeBench) -> None:
    bench = make_bench()
    slow = generate("slow", [1, 2], max_tokens=30, background=True)
    bench.submit(slow)
    bench.step(3)
    assert names(bench) == ["slow"]
    online = generate("online", [3], max_tokens=10)
    bench.submit(online)
    for _ in range(9):
        bench.step()
        assert names(bench) == ["online"]
    assert len(bench.tokens("slow")) == 3
    bench.drain()
    bench.assert_answered(slow, online)


def test_a_tenants_background_work_costs_its_other_requests_no_turn(make_bench: MakeBench) -> None:
    bench = make_bench(max_batch_tokens=4)
    bench.submit(generate("batch", [1] * 40, tenant="a", max_tokens=100, background=True))
    bench.step(40)
    bench.submit(generate("a", [3] * 8, tenant="a"), generate("b", [2] * 8, tenant="b"))
    bench.step(2)
    assert {row.count for batch in bench.batches[-2:] for row in batch.rows} == {4}
    assert {"a", "b"} == set(names(bench)) | set(names(bench, before=-2))


def test_tenants_share_the_background_by_what_they_have_had(make_bench: MakeBench) -> None:
    bench = make_bench(max_running=1)
    for n in range(4):
        bench.submit(generate(f"heavy{n}", [n] * 8, tenant="heavy", background=True))
    bench.step()
    bench.submit(generate("light", [9], tenant="light", background=True))
    bench.drain()
    ends = [name for name in bench.outputs if name != "light"]
    assert len(ends) == 4
    order = [outputs[0].request_id for outputs in bench.outputs.values()]
    assert order.index("light") == 1


def test_a_background_request_gives_up_its_place(make_bench: MakeBench) -> None:
    bench = make_bench(max_running=1)
    slow, online = generate("slow", [1], max_tokens=9, background=True), generate("online", [2])
    bench.submit(slow)
    bench.step(2)
    bench.submit(online)
    bench.step()
    assert names(bench) == ["online"]
    bench.drain()
    bench.assert_answered(slow, online)


def test_a_background_request_gives_up_its_blocks(make_bench: MakeBench) -> None:
    bench = make_bench(kv_blocks=8, max_model_len=32, prefix_cache=False)
    slow, online = generate("slow", [1] * 20, background=True), generate("online", [2] * 24)
    bench.submit(slow)
    bench.step(2)
    bench.submit(online)
    bench.step()
    assert names(bench) == ["online"]
    bench.drain()
    bench.assert_answered(slow, online)


def test_background_requests_give_up_their_slots(make_bench: MakeBench) -> None:
    bench = make_bench(adapter_slots=1)
    bench.warm(A)
    slow = [generate(f"slow{n}", [n], A, max_tokens=50, background=True) for n in range(3)]
    other, online = generate("other", [4], max_tokens=200), generate("online", [5], B)
    bench.submit(*slow)
    bench.step(6)
    bench.submit(other, online)
    bench.run_until(lambda: bool(bench.outputs["online"]))
    assert not any(len(bench.tokens(one.request_id)) == 50 for one in slow)
    bench.drain()
    bench.assert_answered(*slow, other, online)


def test_background_work_advances_beside_endless_traffic(make_bench: MakeBench) -> None:
    bench = make_bench(max_model_len=1024, kv_blocks=512)
    bench.submit(generate("online", [1], max_tokens=STEPS_BETWEEN + 10))
    bench.step()
    bench.submit(embed("text", [2, 3], background=True))
    bench.step(STEPS_BETWEEN)
    assert bench.outputs["text"]


def test_a_long_text_that_cannot_be_split_is_read_at_the_slowest_pace(make_bench: MakeBench) -> None:
    bench = make_bench(whole_prompts=True, max_batch_tokens=32)
    bench.warm(C2)
    bench.engine.scheduler.background.pace.observe(1, 10.0)
    assert bench.engine.scheduler.background.pace.budget == 1
    texts = [classify(f"c{n}", [n] * 20, C2, background=True) for n in range(3)]
    bench.submit(*texts)
    bench.step()
    assert [row.count for row in bench.batches[-1].rows] == [20]
    bench.drain()
    assert all(isinstance(bench.terminal(text.request_id), Classified) for text in texts)


def test_a_full_queue_displaces_background_requests_first_and_never_for_them(make_bench: MakeBench) -> None:
    bench = make_bench(max_running=1, max_waiting=2)
    bench.submit(generate("busy", [1], max_tokens=20))
    bench.step()
    bench.submit(generate("batch", [2], tenant="u", background=True), generate("first", [3]))
    bench.submit(generate("second", [4]))
    bench.submit(generate("late", [5], tenant="u", background=True))
    bench.step()
    assert {name for name, outputs in bench.outputs.items() if isinstance(outputs[-1], Failed)} == {"batch", "late"}
    bench.drain()


def test_steps_are_as_long_as_the_pace_permits() -> None:
    now = 0.0
    pace = BackgroundPace(64, clock=lambda: now)
    for _ in range(100):
        pace.observe(pace.budget, 0.001 * pace.budget)
    assert 0.001 * pace.budget >= 0.8 * QUIET_SECONDS or pace.budget == 64
    pace.other_arrived()
    assert pace.budget <= 64 * BUSY_SECONDS / QUIET_SECONDS + 1
    for _ in range(100):
        pace.observe(pace.budget, 0.001 * pace.budget)
    assert 1 < pace.budget <= 1000 * BUSY_SECONDS * 1.2
    now += QUIET_AFTER_SECONDS
    for _ in range(100):
        pace.observe(pace.budget, 0.001 * pace.budget)
    assert pace.budget == 64
    pace.observe(64, 10.0)
    assert pace.budget == 1


def test_a_small_step_tells_nothing_about_a_larger_one() -> None:
    pace = BackgroundPace(64, clock=lambda: 0.0)
    for _ in range(10):
        pace.observe(pace.budget, 0.0)
    budget = pace.budget
    assert budget > 5
    pace.observe(1, 0.0)
    assert pace.budget == budget


def test_steps_with_others_take_background_rows_rarely() -> None:
    pace = BackgroundPace(64)
    assert sum(pace.may_join() for _ in range(3 * STEPS_BETWEEN)) == 3
