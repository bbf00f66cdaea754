"""A page of a list is limited in bytes too, whatever its adapters contain, and consecutive pages fit together."""

import pytest
from sqlalchemy import Engine

from harness.adapters.records import record_of
from headmix_server.catalog.catalog import Catalog
from headmix_server.catalog.page import PAGE_BYTES
from headmix_server.catalog.rollout.sharing import Shares
from headmix_server.catalog.version import AdapterVersion

HEAVY = tuple(f"{number:0250}" for number in range(500))
HEAVY_BYTES = 250 * 500
COUNT = 40


@pytest.fixture
def catalog(engine: Engine) -> Catalog:
    catalog = Catalog(engine)
    for number in range(COUNT):
        catalog.publish("heavy", f"a{number:02}", record_of(f"{number}".encode(), labels=HEAVY))
        catalog.sharing.change("heavy", f"a{number:02}", Shares(everyone=True))
    for name in ("mine", "own"):
        catalog.publish("b", name, record_of(name.encode()))
    return catalog


@pytest.mark.parametrize("tenant", ["b", "heavy"])
@pytest.mark.parametrize("limit", [None, 3, COUNT, 1000])
def test_pages_of_what_is_visible_hold_few_bytes_and_leave_nothing_out(
    catalog: Catalog, tenant: str, limit: int | None
) -> None:
    found, after = list[str](), ""
    while True:
        page = catalog.sharing.visible(tenant, after=after, limit=limit)
        assert len(page.versions) <= (limit or COUNT + 2)
        assert sum(map(_bytes, page.versions)) <= PAGE_BYTES
        found += [version.called_by(tenant) for version in page.versions]
        if not page.has_more:
            break
        after = found[-1]
    others = ["mine", "own"] if tenant == "b" else []
    prefix = "heavy/" if tenant == "b" else ""
    assert found == others + [f"{prefix}a{number:02}" for number in range(COUNT)]


def test_pages_of_versions_are_bounded_in_the_same_way(catalog: Catalog) -> None:
    for number in range(COUNT):
        catalog.publish("heavy", "a00", record_of(b"next %d" % number, labels=HEAVY))
    found, before = list[int](), None
    while True:
        page = catalog.versions("b", "heavy/a00", before=before, limit=1000)
        assert sum(map(_bytes, page.versions)) <= PAGE_BYTES
        found += [version.version for version in page.versions]
        if not page.has_more:
            break
        before = found[-1]
    assert found == list(range(COUNT + 1, 0, -1))


def test_a_page_has_an_entry_however_large_it_is(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headmix_server.catalog.page.PAGE_BYTES", 10)
    page = catalog.sharing.visible("b", limit=5)
    assert ([version.name for version in page.versions], page.has_more) == (["mine"], True)


def _bytes(version: AdapterVersion) -> int:
    return sum(map(len, version.labels))
