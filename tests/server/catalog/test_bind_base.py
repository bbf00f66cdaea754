"""A catalog and each of its artifacts belong to one base, whichever server opens it."""

from collections.abc import Callable

import msgspec
import pytest
from sqlalchemy import Engine, update

from harness.adapters.records import BASE, digest_of, record_of
from headmix_adapters.config import BaseShape
from headmix_server.catalog.bind_base import BaseIdentity, Bound, OtherBaseError, bind_base
from headmix_server.catalog.catalog import Catalog
from headmix_server.catalog.tables import ArtifactRow, IdentityRow, VersionRow
from headmix_server.catalog.version import AdapterRecord, Canary, VersionState
from headmix_server.core.errors import InvalidRequest
from headmix_server.database import audit_entries, reading, writing

OWN = BASE.fingerprint
OTHER = msgspec.structs.replace(BASE, name="perturbed", fingerprint="other weights")
"""The same dimensions, other weights."""
LARGER = msgspec.structs.replace(BASE, name="larger", fingerprint="larger", num_layers=3)


def trained_on(base: BaseShape, content: bytes) -> AdapterRecord:
    """A record whose header names the base, accepted for it."""
    record = record_of(content, base=base.fingerprint)
    return AdapterRecord(
        digest=record.digest,
        base=base.fingerprint,
        size_bytes=record.size_bytes,
        num_parameters=record.num_parameters,
        config=msgspec.structs.replace(record.config, base=base),
    )


def forget_the_base(engine: Engine, *contents: tuple[BaseShape, bytes]) -> Catalog:
    """Return a catalog as migrated from an earlier version: each artifact belongs to the base in its header."""
    catalog = Catalog(engine)
    for number, (base, content) in enumerate(contents):
        catalog.publish("default", f"a{number}", trained_on(base, content))
    with writing(engine) as session:
        session.execute(update(IdentityRow).values(base=None, base_name=None))
    return catalog


def accepted_for(engine: Engine, content: bytes) -> str:
    with reading(engine) as session:
        return session.get_one(ArtifactRow, digest_of(content)).base


def pollute(engine: Engine, content: bytes) -> None:
    """Make an artifact another base's, as a wrong server of an earlier version may have left it."""
    with writing(engine) as session:
        session.get_one(ArtifactRow, digest_of(content)).base = OTHER.fingerprint


def test_the_first_base_is_the_catalogs_and_another_is_refused_by_its_fingerprint(engine: Engine) -> None:
    bind_base(engine, BASE)
    Catalog(engine).publish("default", "tone", record_of(b"tone"))
    with pytest.raises(OtherBaseError) as caught:
        bind_base(engine, OTHER)
    assert caught.value.known == BaseIdentity("tiny", OWN)
    bind_base(engine, msgspec.structs.replace(BASE, name="the same under another name"))
    with pytest.raises(OtherBaseError, match="the same under another name"):
        bind_base(engine, OTHER)


def test_a_data_folder_that_names_another_base_changes_nothing_once_the_catalog_knows(engine: Engine) -> None:
    bind_base(engine, BASE)
    Catalog(engine).publish("default", "tone", record_of(b"tone"))
    with pytest.raises(OtherBaseError):
        bind_base(engine, OTHER, BaseIdentity(OTHER.name, OTHER.fingerprint))
    assert bind_base(engine, BASE, BaseIdentity(OTHER.name, OTHER.fingerprint)) == Bound()


def test_a_catalog_without_adapters_takes_any_base_and_then_no_other(engine: Engine) -> None:
    bind_base(engine, BASE)
    catalog = Catalog(engine)
    catalog.publish("default", "tone", record_of(b"tone"))
    catalog.delete("default", "tone")
    bind_base(engine, OTHER)
    catalog.publish("default", "tone", record_of(b"tone", base=OTHER.fingerprint))
    assert catalog.resolve("default", "tone").accepted_for == OTHER.fingerprint
    with pytest.raises(OtherBaseError):
        bind_base(engine, BASE)


def test_what_was_verified_against_another_base_is_never_published(engine: Engine) -> None:
    bind_base(engine, BASE)
    catalog = Catalog(engine)
    with pytest.raises(InvalidRequest, match="verified against the base other weights"):
        catalog.publish("default", "tone", record_of(b"tone", base=OTHER.fingerprint))
    assert catalog.stored_digests() == frozenset()


def test_an_artifact_belongs_to_the_base_it_was_accepted_for_whatever_its_header_names(engine: Engine) -> None:
    bind_base(engine, OTHER)
    version = Catalog(engine).publish("default", "tone", record_of(b"tone", base=OTHER.fingerprint)).version
    assert (version.config.base.fingerprint, version.accepted_for) == (OWN, OTHER.fingerprint)


def test_the_same_bytes_again_are_accepted_for_the_base_they_were_verified_against_now(engine: Engine) -> None:
    bind_base(engine, BASE)
    catalog = Catalog(engine)
    catalog.publish("default", "tone", record_of(b"tone"))
    pollute(engine, b"tone")
    again = catalog.publish("default", "tone", record_of(b"tone"))
    assert (again.created, again.version.accepted_for) == (False, OWN)


# --- a catalog that an earlier version wrote -----------------------------------------------------------------------


def test_a_catalog_without_a_record_belongs_to_the_base_that_most_headers_name(engine: Engine) -> None:
    forget_the_base(engine, (BASE, b"1"), (BASE, b"2"), (OTHER, b"3"))
    with pytest.raises(OtherBaseError) as caught:
        bind_base(engine, OTHER)
    assert caught.value.known == BaseIdentity("tiny", OWN)
    with pytest.raises(OtherBaseError):
        bind_base(engine, LARGER)
    assert bind_base(engine, BASE) == Bound(foreign=(digest_of(b"3"),))
    with pytest.raises(OtherBaseError):
        bind_base(engine, OTHER)


@pytest.mark.parametrize(("first", "second"), [(BASE, OTHER), (OTHER, BASE)])
def test_where_two_bases_are_named_as_often_either_may_open_it_first(
    engine: Engine, first: BaseShape, second: BaseShape
) -> None:
    forget_the_base(engine, (BASE, b"1"), (OTHER, b"2"))
    bind_base(engine, first)
    with pytest.raises(OtherBaseError):
        bind_base(engine, second)


def test_uploads_that_allowed_the_mismatch_stay_accepted_where_the_data_folder_names_the_base(engine: Engine) -> None:
    catalog = forget_the_base(engine, (OTHER, b"1"), (OTHER, b"2"), (LARGER, b"3"))
    bound = bind_base(engine, BASE, BaseIdentity("tiny", OWN))
    assert bound == Bound(tuple(sorted((digest_of(b"1"), digest_of(b"2")))), (digest_of(b"3"),))
    assert [catalog.resolve("default", name).accepted_for for name in ("a0", "a1", "a2")] == [OWN, OWN, "larger"]


def test_the_data_folder_of_a_wrong_server_does_not_take_the_catalog_away(engine: Engine) -> None:
    forget_the_base(engine, (BASE, b"1"), (BASE, b"2"), (LARGER, b"3"))
    with pytest.raises(OtherBaseError) as caught:
        bind_base(engine, LARGER, BaseIdentity(LARGER.name, LARGER.fingerprint))
    assert caught.value.known.fingerprint == OWN


def test_a_refused_base_changes_nothing(engine: Engine) -> None:
    forget_the_base(engine, (BASE, b"1"), (BASE, b"2"), (OTHER, b"3"))
    with pytest.raises(OtherBaseError):
        bind_base(engine, OTHER)
    with reading(engine) as session:
        assert session.query(IdentityRow.base).one() == (None,)
    assert [accepted_for(engine, content) for content in (b"1", b"3")] == [OWN, OTHER.fingerprint]


# --- a version of another base, which such a catalog may have --------------------------------------------------------


@pytest.fixture
def polluted(engine: Engine) -> Catalog:
    """An adapter `tone` whose version 1 is another base's, version 2 current and this base's."""
    bind_base(engine, BASE)
    catalog = Catalog(engine)
    catalog.publish("default", "tone", record_of(b"1"))
    catalog.publish("default", "tone", record_of(b"2"))
    pollute(engine, b"1")
    return catalog


def test_a_version_of_another_base_cannot_become_current(engine: Engine, polluted: Catalog) -> None:
    ways: tuple[Callable[[], object], ...] = (
        lambda: polluted.rollback("default", "tone"),
        lambda: polluted.rollback("default", "tone", 1),
        lambda: polluted.canaries.start("default", "tone", Canary(1, 10)),
        lambda: polluted.set_state("default", "tone", 1, VersionState.READY),
    )
    with reading(engine) as session:
        before = audit_entries(session, limit=100)
    for way in ways:
        with pytest.raises(InvalidRequest, match="tone@1 was accepted for another base"):
            way()
    assert polluted.resolve("default", "tone").version == 2
    with reading(engine) as session:
        assert audit_entries(session, limit=100) == before


def test_a_canary_of_it_cannot_be_promoted_nor_a_name_pinned_whose_current_version_it_is(
    engine: Engine, polluted: Catalog
) -> None:
    polluted.publish("default", "tone", record_of(b"3"))
    polluted.canaries.start("default", "tone", Canary(2, 10))
    for content in (b"2", b"3"):
        pollute(engine, content)
    with pytest.raises(InvalidRequest, match="tone@2 was accepted for another base"):
        polluted.canaries.promote("default", "tone")
    with pytest.raises(InvalidRequest, match="tone@3 was accepted for another base"):
        polluted.pins.add("default", "tone")
    polluted.pins.remove("default", "tone")
    assert polluted.pins.current() == ()


def test_it_can_be_seen_retired_and_deleted(engine: Engine, polluted: Catalog) -> None:
    assert [version.accepted_for for version in polluted.versions("default", "tone").versions] == [
        OWN,
        OTHER.fingerprint,
    ]
    polluted.set_state("default", "tone", 1, VersionState.RETIRED)
    polluted.set_state("default", "tone", 1, VersionState.DELETED)
    with reading(engine) as session:
        assert session.query(VersionRow.state).order_by(VersionRow.number).all() == [("deleted",), ("ready",)]
