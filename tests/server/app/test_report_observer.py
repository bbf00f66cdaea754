from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest

from headmix_server.app.report_observer import Names, ReportObserver
from headmix_server.catalog.catalog import Catalog
from headmix_server.core.database import open_database
from headmix_server.core.messages import EngineReport, ResidentAdapter
from headmix_server.core.metrics import Metrics
from headmix_server.core.types import Residency
from tests.support.records import digest_of, record_of

DIGEST = digest_of(b"one")


def _report(**changes: Any) -> EngineReport:
    idle = {"kv_usage": 0.0, "slots_free": 1, "slots_leased": 0, "slots_idle": 0, "slots_loading": 0}
    return EngineReport(running=0, waiting=0, **{**idle, **changes})


class _CountingCatalog(Catalog):
    asked = 0
    asked_for: set[str] | None = None

    def owners(self, digests: Collection[str]) -> Names:
        self.asked += 1
        self.asked_for = set(digests)
        return super().owners(digests)


@pytest.fixture
def catalog(tmp_path: Path) -> _CountingCatalog:
    catalog = _CountingCatalog(open_database(tmp_path / "headmix.db"))
    catalog.publish("acme", "poet", record_of(b"one"))
    return catalog


def test_a_digest_is_counted_under_its_tenants_name(catalog: _CountingCatalog) -> None:
    metrics = Metrics(series=10, version="1", base="tiny")
    resident = [ResidentAdapter(digest=DIGEST, tier=Residency.DEVICE)]
    ReportObserver(catalog, metrics)(_report(resident=resident, running_adapters=[DIGEST]))
    text = metrics.render(tenants=True)[0].decode()
    assert 'headmix_adapter_resident{adapter="poet",tenant="acme",tier="device"} 1.0' in text
    assert 'running_lora_adapters="poet"' in text


def test_the_catalog_is_asked_only_when_a_report_may_speak_of_new_names(catalog: _CountingCatalog) -> None:
    observe = ReportObserver(catalog, Metrics(series=10, version="1", base="tiny"))
    for _ in range(3):
        observe(_report())
    assert catalog.asked == 0
    for _ in range(3):
        observe(_report(running_adapters=[DIGEST]))
    assert catalog.asked == 1
    observe(_report(resident=[]))
    assert catalog.asked == 2


def test_the_catalog_is_asked_for_what_a_report_speaks_of_and_no_more(catalog: _CountingCatalog) -> None:
    for number in range(20):
        catalog.publish("acme", f"other-{number}", record_of(f"{number}".encode()))
    observe = ReportObserver(catalog, Metrics(series=10, version="1", base="tiny"))
    observe(_report(resident=[ResidentAdapter(digest=DIGEST, tier=Residency.DEVICE)]))
    assert catalog.asked_for == {DIGEST}
    second = digest_of(b"2")
    observe(_report(waiting_adapters=[second]))
    assert catalog.asked_for == {DIGEST, second}
