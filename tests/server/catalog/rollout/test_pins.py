import pytest
from sqlalchemy import Engine

from harness.adapters.records import record_of
from headmix_server.catalog.catalog import Catalog
from headmix_server.core.errors import ModelNotFound
from headmix_server.database import audit_entries, open_database, reading


@pytest.fixture
def catalog(engine: Engine) -> Catalog:
    catalog = Catalog(engine)
    catalog.publish("acme", "tone", record_of(b"1"))
    return catalog


def pinned(catalog: Catalog) -> list[tuple[str, str, int]]:
    return [(version.tenant, version.name, version.version) for version in catalog.pins.current()]


def test_a_pin_is_of_a_name_and_follows_its_current_version(catalog: Catalog) -> None:
    assert not catalog.resolve("acme", "tone").pinned
    assert catalog.pins.add("acme", "tone").pinned
    catalog.publish("acme", "tone", record_of(b"2"))
    assert pinned(catalog) == [("acme", "tone", 2)]
    assert catalog.resolve("acme", "tone@1").pinned
    catalog.rollback("acme", "tone")
    assert pinned(catalog) == [("acme", "tone", 1)]
    assert not catalog.pins.remove("acme", "tone").pinned
    assert pinned(catalog) == []


def test_a_pin_outlives_the_server_and_ends_with_its_adapter(catalog: Catalog, database_url: str) -> None:
    catalog.pins.add("acme", "tone")
    again = open_database(database_url)
    assert pinned(Catalog(again)) == [("acme", "tone", 1)]
    again.dispose()
    catalog.delete("acme", "tone")
    assert pinned(catalog) == []
    assert not catalog.publish("acme", "tone", record_of(b"2")).version.pinned


def test_only_the_owner_pins(catalog: Catalog) -> None:
    for ask in (catalog.pins.add, catalog.pins.remove):
        for tenant, name in (("b", "tone"), ("acme", "other"), ("acme", "tone@1")):
            with pytest.raises(ModelNotFound):
                ask(tenant, name)
    assert pinned(catalog) == []


def test_a_change_is_in_the_audit_once(catalog: Catalog, engine: Engine) -> None:
    for ask in (catalog.pins.add, catalog.pins.remove):
        for _ in range(2):
            ask("acme", "tone", actor="key_1")
    with reading(engine) as session:
        actions = [entry.action for entry in audit_entries(session, tenant="acme", limit=9)]
    assert actions[:2] == ["adapter.unpin", "adapter.pin"]
    assert actions[2] == "adapter.publish"
