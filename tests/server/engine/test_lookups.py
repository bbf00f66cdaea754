"""What a request's arrival does to adapters and shares: each is looked up, kept and charged by its own name."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from headmix_server.core.messages import Abort, Failed, ForgetAdapter
from headmix_server.core.types import Residency
from headmix_server.engine.sequence import Sequence
from tests.support.engines import LIMITS, Bench, adapter, generate, load

A, B, C, D, E = (adapter(name) for name in "abcde")


@pytest.fixture
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    changes: dict[str, Any] = getattr(request, "param", {})
    bench = Bench(replace(LIMITS, **changes))
    yield bench
    bench.close()


@pytest.mark.parametrize("bench", [{"max_running": 1}], indirect=True)
def test_the_weight_of_a_request_is_its_own_tenants(bench: Bench) -> None:
    for number in range(8):
        bench.submit(
            generate(f"light-{number}", [1, 2], tenant="light", weight=1.0),
            generate(f"heavy-{number}", [1, 2], tenant="heavy", weight=3.0),
        )
    bench.run_until(lambda: sum(map(bool, map(bench.tokens, list(bench.outputs)))) >= 8)
    served = [name for name in bench.outputs if bench.tokens(name)][:8]
    assert sum(name.startswith("heavy") for name in served) == 6
    bench.drain()


def test_an_adapter_that_is_forgotten_and_named_again_stays(bench: Bench) -> None:
    bench.warm(A)
    bench.submit(generate("holds", [1], A))
    bench.step()
    bench.engine.forget(ForgetAdapter(digest=A.digest))
    bench.submit(generate("again", [1, 2], A))
    bench.drain()
    assert bench.engine.tiers.slots.holds(A.digest)


def test_lookups_are_counted_where_the_adapter_is_found(bench: Bench) -> None:
    bench.warm(A)
    bench.engine.tiers.take_counts()
    bench.submit(generate("warm", [1], A), generate("cold", [1], B))
    counts = bench.engine.tiers.take_counts()
    assert counts.hits[Residency.DEVICE] == 1
    assert counts.misses[Residency.DEVICE] == counts.misses[Residency.HOST] == 1
    bench.drain()


@pytest.mark.parametrize("bench", [{"host_adapters": 1}], indirect=True)
def test_an_adapter_on_the_device_is_not_read_from_disk_again(bench: Bench) -> None:
    bench.warm(A, B)
    bench.submit(generate("r", [1], A), generate("s", [1], B))
    bench.drain()
    assert sorted(bench.disk.opened) == ["a", "b"]


@pytest.mark.parametrize("bench", [{"adapter_slots": 1}], indirect=True)
def test_a_load_from_host_memory_tells_how_long_it_took(bench: Bench) -> None:
    bench.warm(A)
    bench.warm(B)
    bench.engine.tiers.take_counts()
    bench.warm(A)
    (report,) = bench.engine.tiers.take_counts().loads
    assert report.source is Residency.HOST
    assert report.seconds >= 0


@pytest.mark.parametrize("bench", [{"adapter_slots": 4}], indirect=True)
def test_a_tenant_with_its_share_makes_room_from_its_own_though_others_were_used_longer_ago(bench: Bench) -> None:
    for ref, tenant in ((A, "other"), (B, "other"), (C, "mine"), (D, "mine"), (E, "mine")):
        bench.submit(generate(ref.name, [1], ref, tenant=tenant))
        bench.drain()
    assert [bench.engine.tiers.slots.holds(ref.digest) for ref in (A, B, E)] == [True, True, True]


def test_an_abort_is_news_while_nothing_but_a_load_is_waited_for(bench: Bench) -> None:
    gate = bench.disk.gate(A)
    bench.submit(generate("r", [1], A))
    bench.step(2)
    before = bench.engine.stalled
    bench.engine.abort(Abort(request_id="r"))
    assert (before, bench.engine.stalled) == (True, False)
    gate.set()
    bench.drain()


def test_a_load_under_a_request_id_in_use_fails_with_a_code_that_exists(bench: Bench) -> None:
    bench.submit(generate("r", [1]), load("r", A))
    bench.step()
    (failed,) = (output for output in bench.outputs["r"] if isinstance(output, Failed))
    assert failed.code == "internal_error"
    assert failed.message == "this request id is in use"


def test_a_prompt_that_ends_in_a_stop_token_has_not_ended() -> None:
    message = generate("r", [5, 7], stop_token_ids=(7,))
    assert Sequence.from_message(0, message, 0.0).finish_reason(frozenset({7})) is None
