from collections.abc import Iterator
from datetime import UTC, date, datetime

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from headmix_server.core.errors import InvalidRequest, ServerOverloaded, StorageUnavailable
from headmix_server.database import open_database
from headmix_server.database.connection.postgres import BoundedConnection
from headmix_server.tenancy.usage import meter as usage
from headmix_server.tenancy.usage import report as usage_report
from headmix_server.tenancy.usage.meter import REST, UsageMeter, Used
from headmix_server.tenancy.usage.report import UsageLine, UsageReport
from tests.support.storage.databases import PostgresServer

FIRST, LAST = date(2026, 1, 1), date(2026, 12, 31)
ONE = Used(requests=1, prompt_tokens=10, cached_tokens=4, generation_tokens=2)
MIDNIGHT = datetime(2026, 11, 24, tzinfo=UTC).timestamp()


def lines(engine: Engine, **more: object) -> tuple[UsageLine, ...]:
    return UsageReport(engine).lines(**({"tenant": None, "first": FIRST, "last": LAST} | more))  # type: ignore[arg-type]


def times(count: int) -> Used:
    return Used(requests=count, prompt_tokens=10 * count, cached_tokens=4 * count, generation_tokens=2 * count)


def test_usage_adds_up_by_tenant_adapter_and_day_of_utc_over_several_writes(engine: Engine) -> None:
    now = MIDNIGHT - 1
    meter = UsageMeter(engine, clock=lambda: now)
    meter.add("acme", "tone", ONE)
    meter.flush()
    meter.add("acme", "tone", ONE)
    meter.add("acme", None, ONE)
    now = MIDNIGHT
    meter.add("acme", "tone", ONE)
    meter.add("other", "tone", ONE)
    meter.flush()
    meter.flush()
    found = [(line.tenant, line.day, line.adapter, line.used) for line in lines(engine)]
    assert found == [
        ("acme", "2026-11-23", "", ONE),
        ("acme", "2026-11-23", "tone", times(2)),
        ("acme", "2026-11-24", "tone", ONE),
        ("other", "2026-11-24", "tone", ONE),
    ]


def test_a_report_is_of_the_days_the_tenant_and_the_groups_asked_for(engine: Engine) -> None:
    now = MIDNIGHT - 1
    meter = UsageMeter(engine, clock=lambda: now)
    for tenant in ("acme", "other"):
        for adapter in ("tone", "mood"):
            meter.add(tenant, adapter, ONE)
    now = MIDNIGHT
    meter.add("acme", "tone", ONE)
    meter.flush()
    (total,) = lines(engine, groups=())
    assert (total.tenant, total.day, total.adapter, total.used) == (None, None, None, times(5))
    by_tenant = lines(engine, groups=("tenant",))
    assert [(line.tenant, line.used.requests) for line in by_tenant] == [("acme", 3), ("other", 2)]
    one_day = lines(engine, tenant="acme", first=date(2026, 11, 24), groups=("adapter",))
    assert [(line.adapter, line.used) for line in one_day] == [("tone", ONE)]
    assert lines(engine, tenant="nobody") == ()
    assert lines(engine, tenant="nobody", groups=())[0].used == Used()


def test_what_cannot_be_written_is_kept_and_counted_once(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    meter = UsageMeter(engine)
    meter.add("acme", "tone", ONE)

    def busy(*_: object) -> None:
        meter.add("acme", "tone", ONE)  # ends while the others are being written
        raise ServerOverloaded("The catalog is busy; try again.")

    with monkeypatch.context() as patched:
        patched.setattr(meter, "_write", busy)
        with pytest.raises(ServerOverloaded):
            meter.flush()
    meter.flush()
    assert [line.used for line in lines(engine, groups=("adapter",), first=date(2000, 1, 1), last=date.max)] == [
        times(2)
    ]


def test_memory_is_bounded_and_nothing_is_lost(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage, "MOST_KEPT", 2)
    meter = UsageMeter(engine, clock=lambda: MIDNIGHT)
    for number in range(5):
        meter.add("acme", f"adapter-{number % 4}", ONE)
    meter.flush()
    found = {line.adapter: line.used for line in lines(engine)}
    assert found == {"adapter-0": times(2), "adapter-1": ONE, REST: times(2)}


def test_readers_do_not_set_the_pace_of_writing(engine: Engine) -> None:
    now = MIDNIGHT
    meter = UsageMeter(engine, clock=lambda: now)
    for _ in range(3):
        meter.add("acme", "tone", ONE)
        meter.flush_for_reader()
    assert lines(engine)[0].used == ONE
    now += 1
    meter.flush_for_reader()
    assert lines(engine)[0].used == times(3)


def test_a_report_of_too_many_lines_is_refused(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage_report, "MOST_ROWS", 1)
    meter = UsageMeter(engine, clock=lambda: MIDNIGHT)
    meter.add("acme", "tone", ONE)
    meter.add("acme", None, ONE)
    meter.flush()
    with pytest.raises(InvalidRequest):
        lines(engine)
    assert lines(engine, groups=("tenant",))[0].used == times(2)


def test_an_unknown_group_of_usage_is_refused(engine: Engine) -> None:
    with pytest.raises(ValueError, match="requests"):
        lines(engine, groups=("requests",))


requests = st.tuples(st.sampled_from(["a", "b"]), st.sampled_from([None, "x", "y"]), st.integers(0, 9), st.booleans())


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(requests, max_size=30))
def test_the_sum_of_the_report_is_the_sum_of_the_requests(
    tmp_path_factory: pytest.TempPathFactory, made: list[tuple[str, str | None, int, bool]]
) -> None:
    engine = open_database(tmp_path_factory.mktemp("usage") / "headmix.db")
    meter = UsageMeter(engine, clock=lambda: MIDNIGHT)
    total = Used()
    for tenant, adapter, tokens, flushes in made:
        used = Used(requests=1, prompt_tokens=tokens, generation_tokens=2 * tokens)
        meter.add(tenant, adapter, used)
        total += used
        if flushes:
            meter.flush()
    meter.flush()
    assert lines(engine, groups=())[0].used == total
    engine.dispose()


@pytest.fixture
def far_engine(postgres: PostgresServer) -> Iterator[Engine]:
    """A database that can fail between a commit and its acknowledgement."""
    engine = open_database(postgres.new_database())
    yield engine
    engine.dispose()


def _lose_answer(monkeypatch: pytest.MonkeyPatch, *, after_commit: bool) -> None:
    """Lose the connection at the next commit, before or after the server has executed it."""
    commit = BoundedConnection.commit

    def lost(self: BoundedConnection) -> None:
        monkeypatch.setattr(BoundedConnection, "commit", commit)
        if after_commit:
            commit(self)
        self.close()
        raise psycopg.OperationalError("the connection is lost")

    monkeypatch.setattr(BoundedConnection, "commit", lost)


@pytest.mark.parametrize("after_commit", [True, False])
def test_usage_counts_once_whether_or_not_the_lost_answer_was_that_it_is_written(
    far_engine: Engine, monkeypatch: pytest.MonkeyPatch, *, after_commit: bool
) -> None:
    meter = UsageMeter(far_engine, clock=lambda: MIDNIGHT)
    meter.add("acme", "tone", ONE)
    _lose_answer(monkeypatch, after_commit=after_commit)
    with pytest.raises(StorageUnavailable):
        meter.flush()
    assert [used for *_, used in meter.unwritten()] == [ONE]
    meter.add("acme", "tone", ONE)
    for _ in range(2):
        meter.flush()
    assert [line.used for line in lines(far_engine)] == [times(2)]
    assert meter.unwritten() == ()


def test_a_database_that_never_saw_the_transaction_counts_it(
    far_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    meter = UsageMeter(far_engine, clock=lambda: MIDNIGHT)
    meter.add("acme", "tone", ONE)
    monkeypatch.setattr(usage, "transaction_number", lambda _: 2**40)
    _lose_answer(monkeypatch, after_commit=False)
    with pytest.raises(StorageUnavailable):
        meter.flush()
    meter.flush()
    assert [line.used for line in lines(far_engine)] == [ONE]
