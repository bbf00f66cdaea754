import asyncio
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from harness.adapters.records import digest_of, record_of
from headmix_server.app.observers.report_observer import Names, ReportObserver
from headmix_server.catalog.catalog import Catalog
from headmix_server.core.errors import StorageUnavailable
from headmix_server.core.messages import EngineReport, ResidentAdapter
from headmix_server.core.observability.metrics import Metrics
from headmix_server.core.types import Residency
from headmix_server.database import open_database

DIGEST = digest_of(b"one")
ON_DEVICE = [ResidentAdapter(digest=DIGEST, tier=Residency.DEVICE)]
RESIDENT = 'headmix_adapter_resident{adapter="poet",tenant="acme",tier="device"} 1.0'
RUNNING = 'running_lora_adapters="poet"'


def _report(**changes: Any) -> EngineReport:
    idle = {"kv_usage": 0.0, "slots_free": 1, "slots_leased": 0, "slots_idle": 0, "slots_loading": 0}
    return EngineReport(running=0, waiting=0, **{**idle, **changes})


class _WatchedCatalog(Catalog):
    """Counts how often it is queried; calls `meanwhile` between reading and returning."""

    asked = 0
    asked_for: set[str] | None = None
    away = False
    meanwhile: Callable[[], None] = staticmethod(lambda: None)

    def owners(self, digests: Collection[str]) -> Names:
        self.asked += 1
        self.asked_for = set(digests)
        if self.away:
            raise StorageUnavailable("The database cannot be reached.")
        names = super().owners(digests)
        self.meanwhile()
        return names


@pytest.fixture
def catalog(tmp_path: Path) -> _WatchedCatalog:
    catalog = _WatchedCatalog(open_database(tmp_path / "headmix.db"))
    catalog.publish("acme", "poet", record_of(b"one"))
    return catalog


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(series=10, version="1", base="tiny")


def _text(metrics: Metrics) -> str:
    return metrics.render(tenants=True)[0].decode()


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - the observer signals nothing
            await asyncio.sleep(0.001)


async def test_a_digest_is_counted_under_its_tenants_name(catalog: _WatchedCatalog, metrics: Metrics) -> None:
    observe = ReportObserver(catalog, metrics)
    observe(_report(resident=ON_DEVICE, running_adapters=[DIGEST]))
    await _until(lambda: RESIDENT in _text(metrics))
    observe(_report(running_adapters=[DIGEST]))
    assert RUNNING in _text(metrics)


async def test_a_report_is_taken_in_though_the_database_does_not_answer(
    catalog: _WatchedCatalog, metrics: Metrics
) -> None:
    observe = ReportObserver(catalog, metrics, retry_seconds=0.01)
    catalog.away = True
    with capture_logs() as logs:
        observe(_report(running_adapters=[DIGEST], resident=ON_DEVICE))
        assert catalog.asked == 0, "asked by whoever hands over the report"
        await _until(lambda: catalog.asked > 2)
        observe(_report(kv_usage=0.5))
    assert "headmix_kv_cache_usage_ratio 0.5" in _text(metrics)
    assert {entry["event"] for entry in logs} == {"adapter names not read: metrics use the known ones"}
    catalog.away = False
    await _until(lambda: RESIDENT in _text(metrics))


async def test_what_moves_during_an_outage_is_reported_by_the_names_known(
    catalog: _WatchedCatalog, metrics: Metrics
) -> None:
    observe = ReportObserver(catalog, metrics)
    observe(_report(resident=ON_DEVICE))
    await _until(lambda: RESIDENT in _text(metrics))
    catalog.away = True
    observe(_report(resident=[ResidentAdapter(digest=DIGEST, tier=Residency.HOST)]))
    await _until(lambda: RESIDENT.replace("device", "host") in _text(metrics))
    await observe.close()


async def test_the_catalog_is_asked_only_when_a_report_may_speak_of_new_names(
    catalog: _WatchedCatalog, metrics: Metrics
) -> None:
    observe = ReportObserver(catalog, metrics)
    for _ in range(3):
        observe(_report())
    assert catalog.asked == 0
    for _ in range(3):
        observe(_report(running_adapters=[DIGEST]))
        await _until(lambda: catalog.asked == 1)
    await observe.close()
    observe(_report(resident=[]))
    await _until(lambda: catalog.asked == 2)


async def test_the_catalog_is_asked_for_what_a_report_speaks_of_and_no_more(
    catalog: _WatchedCatalog, metrics: Metrics
) -> None:
    for number in range(20):
        catalog.publish("acme", f"other-{number}", record_of(f"{number}".encode()))
    observe = ReportObserver(catalog, metrics)
    observe(_report(resident=ON_DEVICE))
    await _until(lambda: catalog.asked_for == {DIGEST})
    second = digest_of(b"2")
    observe(_report(waiting_adapters=[second]))
    await _until(lambda: catalog.asked_for == {DIGEST, second})


async def test_an_adapter_deleted_while_its_name_is_read_gets_no_series(
    catalog: _WatchedCatalog, metrics: Metrics
) -> None:
    def delete() -> None:
        catalog.meanwhile = lambda: None
        catalog.delete("acme", "poet")
        metrics.adapter_deleted("acme", "poet")

    catalog.meanwhile = delete
    observe = ReportObserver(catalog, metrics)
    observe(_report(resident=ON_DEVICE))
    await _until(lambda: catalog.asked == 2)
    await observe.close()
    assert "poet" not in _text(metrics)


async def test_names_that_arrive_late_do_not_report_what_a_dead_engine_held(
    catalog: _WatchedCatalog, metrics: Metrics
) -> None:
    observe = ReportObserver(catalog, metrics)
    observe(_report(resident=ON_DEVICE))
    observe.engine_lost()
    await _until(lambda: catalog.asked == 1)
    await observe.close()
    assert "poet" not in _text(metrics)
