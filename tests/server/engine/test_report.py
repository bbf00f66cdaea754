"""A report has the engine's current state and everything since the last report, exactly once."""

from harness.engine.engines import adapter, generate, load
from headmix_server.core.types import Residency
from headmix_server.engine.report import make_report
from tests.server.engine.conftest import MakeBench

A, B, C, D = (adapter(name) for name in "abcd")


def test_gauges_are_the_present_state(make_bench: MakeBench) -> None:
    bench = make_bench(max_running=1, adapter_slots=2)
    bench.warm(A)
    bench.disk.gate(B)
    bench.submit(generate("running", [1] * 8, A), generate("waiting", [2], B))
    bench.step()
    report = make_report(bench.engine)
    assert (report.running, report.waiting) == (1, 1)
    assert (report.running_adapters, report.waiting_adapters) == ([A.digest], [B.digest])
    assert report.kv_usage == 2 / bench.limits.kv_blocks
    assert (report.slots_free, report.slots_leased, report.slots_idle) == (1, 1, 0)
    assert report.slots_loading == 1
    assert report.slots_pinned == 0
    bench.engine.tiers.slots.pin(A.digest, A.tenant)
    assert make_report(bench.engine).slots_pinned == 1


def test_adapters_in_slots_are_listed_idle_ones_too_and_apart_from_those_that_wait_or_load(
    make_bench: MakeBench,
) -> None:
    bench = make_bench(max_running=1, adapter_slots=2)
    bench.warm(A, B)
    gates = [bench.disk.gate(ref) for ref in (C, D)]
    bench.submit(generate("running", [1] * 8, A), generate("wants an idle one", [2], B), generate("cold", [2], C))
    bench.submit(load("load", D))
    bench.step()
    report = make_report(bench.engine)
    assert sorted(report.running_adapters) == sorted([A.digest, B.digest])
    assert report.waiting_adapters == [C.digest, D.digest]
    for gate in gates:
        gate.set()
    bench.drain()
    report = make_report(bench.engine)
    assert len(report.running_adapters) == 2
    assert report.waiting_adapters == []


def test_what_happened_is_reported_once(make_bench: MakeBench) -> None:
    bench = make_bench()
    bench.submit(generate("r", [1, 2, 3], A, max_tokens=2))
    bench.drain()
    first, second = make_report(bench.engine), make_report(bench.engine)
    assert [(s.batch_tokens, s.distinct_adapters) for s in first.steps] == [(3, 1), (1, 1)]
    assert all(s.schedule_seconds >= 0 and s.run_seconds >= 0 and s.commit_seconds >= 0 for s in first.steps)
    assert [entry.source for entry in first.loads] == [Residency.DISK]
    assert first.misses == {"device": 1, "host": 1}
    assert [(r.digest, r.tier) for r in first.resident or ()] == [(A.digest, Residency.DEVICE)]
    assert (second.steps, second.loads, second.misses, second.resident) == ([], [], {}, None)
