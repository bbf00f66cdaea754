"""What may be done with a version, and the audit log entry that every change leaves."""

import pytest
from sqlalchemy import Engine

from harness.adapters.records import digest_of, record_of
from headmix_server.catalog.catalog import Catalog
from headmix_server.catalog.version import VersionState
from headmix_server.core.errors import InvalidRequest, ModelNotFound
from headmix_server.database.audit_log import AuditLog

READY, RETIRED, DELETED = VersionState.READY, VersionState.RETIRED, VersionState.DELETED


@pytest.fixture
def catalog(engine: Engine) -> Catalog:
    catalog = Catalog(engine)
    for content in (b"1", b"2", b"3"):
        catalog.publish("acme", "a", record_of(content), actor="key_1")
    return catalog


def test_a_retired_version_is_listed_and_cannot_be_named_until_it_is_restored(catalog: Catalog) -> None:
    assert catalog.set_state("acme", "a", 1, RETIRED).state is RETIRED
    with pytest.raises(ModelNotFound, match="'a@1' does not exist"):
        catalog.resolve("acme", "a@1")
    with pytest.raises(ModelNotFound):
        catalog.rollback("acme", "a", 1)
    assert [(v.version, v.state) for v in catalog.versions("acme", "a").versions] == [
        (3, READY),
        (2, READY),
        (1, RETIRED),
    ]
    assert catalog.refers_to(digest_of(b"1"))
    catalog.set_state("acme", "a", 1, READY)
    assert catalog.resolve("acme", "a@1").digest == digest_of(b"1")


def test_a_deleted_version_is_gone_like_one_that_never_was(catalog: Catalog) -> None:
    assert catalog.set_state("acme", "a", 2, DELETED).digest == digest_of(b"2")
    assert [v.version for v in catalog.versions("acme", "a").versions] == [3, 1]
    for state in VersionState:
        with pytest.raises(ModelNotFound):
            catalog.set_state("acme", "a", 2, state)
    assert not catalog.refers_to(digest_of(b"2"))
    assert catalog.resolve("acme", "a").version == 3


@pytest.mark.parametrize("state", [RETIRED, DELETED])
def test_the_current_version_can_neither_be_retired_nor_deleted(catalog: Catalog, state: VersionState) -> None:
    with pytest.raises(InvalidRequest) as caught:
        catalog.set_state("acme", "a", 3, state)
    assert caught.value.param == "version"
    assert catalog.resolve("acme", "a@3").state is READY


@pytest.mark.parametrize("state", [RETIRED, DELETED])
def test_a_rollback_goes_past_what_cannot_be_named(catalog: Catalog, state: VersionState) -> None:
    catalog.set_state("acme", "a", 2, state)
    assert catalog.rollback("acme", "a").version == 1
    with pytest.raises(InvalidRequest):
        catalog.rollback("acme", "a")


def test_a_rollback_always_changes_something_even_if_what_stood_between_is_retired(catalog: Catalog) -> None:
    catalog.rollback("acme", "a", 1)
    catalog.rollback("acme", "a", 2)
    catalog.rollback("acme", "a", 1)
    catalog.set_state("acme", "a", 2, RETIRED)
    assert catalog.rollback("acme", "a").version == 3


@pytest.mark.parametrize(("tenant", "name", "version"), [("other", "a", 1), ("acme", "b", 1), ("acme", "a", 9)])
def test_another_tenants_version_has_no_state(catalog: Catalog, tenant: str, name: str, version: int) -> None:
    with pytest.raises(ModelNotFound):
        catalog.set_state(tenant, name, version, RETIRED)


@pytest.mark.parametrize("version", [0, -1, 2**70])
def test_numbers_no_version_can_have_are_not_found(catalog: Catalog, version: int) -> None:
    with pytest.raises(ModelNotFound):
        catalog.set_state("acme", "a", version, RETIRED)


def test_every_change_is_in_the_audit_with_who_made_it_and_what_changed_nothing_is_not(
    catalog: Catalog, engine: Engine
) -> None:
    catalog.publish("acme", "a", record_of(b"3"), actor="key_2")
    catalog.rollback("acme", "a", 3, actor="key_2")
    catalog.rollback("acme", "a", 1, actor="key_2")
    catalog.set_state("acme", "a", 2, RETIRED, actor="key_3")
    catalog.set_state("acme", "a", 2, RETIRED, actor="key_3")
    catalog.set_state("acme", "a", 2, READY, actor="key_3")
    catalog.set_state("acme", "a", 3, DELETED, actor="key_3")
    catalog.delete("acme", "a", actor="key_4")
    catalog.tombstones.bury(digest_of(b"1"))
    with pytest.raises(ModelNotFound):
        catalog.delete("acme", "a", actor="key_5")
    entries = AuditLog(engine).entries(tenant="acme", before=None, limit=100)
    assert [(entry.actor, entry.action, entry.subject) for entry in reversed(entries)] == [
        ("key_1", "adapter.publish", "a@1"),
        ("key_1", "adapter.publish", "a@2"),
        ("key_1", "adapter.publish", "a@3"),
        ("key_2", "adapter.rollback", "a@1"),
        ("key_3", "version.retired", "a@2"),
        ("key_3", "version.ready", "a@2"),
        ("key_3", "version.deleted", "a@3"),
        ("key_4", "adapter.delete", "a"),
        ("server", "artifact.free", digest_of(b"1")),
    ]
    assert entries[1].detail == {"versions": [2, 1]}


def test_names_that_begin_with_a_digit_are_listed_too(catalog: Catalog) -> None:
    catalog.publish("acme", "0-shot", record_of(b"1"))
    assert [version.name for version in catalog.list("acme")] == ["0-shot", "a"]


def test_pages_of_adapters_and_versions_join_to_the_whole(catalog: Catalog) -> None:
    for number in range(5):
        catalog.publish("acme", f"b{number}", record_of(b"1"))
    names, after = [], ""
    while page := catalog.list("acme", after=after, limit=2):
        names += [version.name for version in page]
        after = page[-1].name
    assert names == ["a", *(f"b{number}" for number in range(5))]
    assert catalog.count("acme") == 6
    assert [v.version for v in catalog.versions("acme", "a", limit=2).versions] == [3, 2]
    assert [v.version for v in catalog.versions("acme", "a", before=2, limit=2).versions] == [1]
    assert catalog.versions("acme", "a", before=1).versions == ()
    assert (
        len(catalog.versions("acme", "a", before=2**64).versions) == 3
    )  # no more than the database's integers can hold


def test_a_catalog_keeps_its_identity(catalog: Catalog, engine: Engine) -> None:
    assert catalog.identity() == Catalog(engine).identity()
    assert len(catalog.identity()) == 32
