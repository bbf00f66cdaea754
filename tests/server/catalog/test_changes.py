"""Every change to an adapter is reported once it is committed, and nothing else is."""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from harness.adapters.records import record_of
from headmix_server.catalog import changes
from headmix_server.catalog.catalog import Catalog
from headmix_server.catalog.changes import Change
from headmix_server.catalog.rollout.canary import Canaries
from headmix_server.catalog.rollout.pins import Pins
from headmix_server.catalog.rollout.sharing import Shares, Sharing
from headmix_server.catalog.tables import AdapterRow, CanaryRow, PinRow, ShareRow, VersionRow
from headmix_server.catalog.version import Canary, VersionState
from headmix_server.core.errors import InvalidRequest, StorageUnavailable
from headmix_server.database import reading, writing

Told = list[tuple[str, str, Change]]
Step = Callable[[Catalog], object]

T, N = "acme", "tone"
STEPS: list[tuple[str, Step, list[Change]]] = [
    ("publish", lambda c: c.publish(T, N, record_of(b"1")), [Change.PUBLISHED]),
    ("publish the same", lambda c: c.publish(T, N, record_of(b"1")), []),
    ("publish beside", lambda c: c.publish(T, N, record_of(b"2"), current=False), [Change.PUBLISHED]),
    ("canaries.start", lambda c: c.canaries.start(T, N, Canary(2, 5)), [Change.CANARY_STARTED]),
    ("another percentage", lambda c: c.canaries.start(T, N, Canary(2, 50)), [Change.CANARY_RESIZED]),
    ("canaries.promote", lambda c: c.canaries.promote(T, N), [Change.CANARY_PROMOTED]),
    ("canary again", lambda c: c.canaries.start(T, N, Canary(1, 5)), [Change.CANARY_STARTED]),
    ("canaries.end", lambda c: c.canaries.end(T, N), [Change.CANARY_ENDED]),
    ("no canary to end", lambda c: c.canaries.end(T, N), []),
    ("rollback", lambda c: c.rollback(T, N), [Change.ROLLED_BACK]),
    ("rollback to the same", lambda c: c.rollback(T, N, 1), []),
    ("sharing.change", lambda c: c.sharing.change(T, N, Shares(everyone=True)), [Change.SHARED]),
    ("pins.add", lambda c: c.pins.add(T, N), [Change.PINNED]),
    ("pinned already", lambda c: c.pins.add(T, N), []),
    ("pins.remove", lambda c: c.pins.remove(T, N), [Change.UNPINNED]),
    ("not pinned", lambda c: c.pins.remove(T, N), []),
    ("set_state retired", lambda c: c.set_state(T, N, 2, VersionState.RETIRED), [Change.VERSION_RETIRED]),
    ("set_state ready", lambda c: c.set_state(T, N, 2, VersionState.READY), [Change.VERSION_READY]),
    ("set_state deleted", lambda c: c.set_state(T, N, 2, VersionState.DELETED), [Change.VERSION_DELETED]),
    ("pin again", lambda c: c.pins.add(T, N), [Change.PINNED]),
    ("publish a third", lambda c: c.publish(T, N, record_of(b"3"), current=False), [Change.PUBLISHED]),
    ("canary of it", lambda c: c.canaries.start(T, N, Canary(3, 5)), [Change.CANARY_STARTED]),
    ("retire", lambda c: c.retire(T, N, 1), [Change.CANARY_ENDED, Change.UNPINNED, Change.VERSION_RETIRED]),
    ("delete_version", lambda c: c.delete_version(T, N, 3), [Change.VERSION_DELETED]),
    ("delete", lambda c: c.delete(T, N), [Change.DELETED]),
]


def content(engine: Engine) -> object:
    """Return every row that defines what names refer to."""
    with reading(engine) as session:
        return [
            sorted(tuple(row) for row in session.execute(select(*table.__table__.columns)))
            for table in (AdapterRow, VersionRow, CanaryRow, ShareRow, PinRow)
        ]


def test_each_change_is_reported_and_what_changes_nothing_is_not(engine: Engine) -> None:
    catalog, told = Catalog(engine), Told()
    catalog.watch(lambda *change: told.append(change))
    for name, step, expected in STEPS:
        before = content(engine)
        told.clear()
        step(catalog)
        assert told == [(T, N, change) for change in expected], name
        assert (content(engine) != before) == bool(expected), name


def test_the_steps_above_take_every_way_there_is_to_change_the_catalog() -> None:
    ways = {
        f"{prefix}{name}"
        for prefix, kind in (("", Catalog), ("canaries.", Canaries), ("sharing.", Sharing), ("pins.", Pins))
        for name, method in inspect.getmembers(kind, inspect.isfunction)
        if "_changes.writing(" in inspect.getsource(method)
    }
    assert ways == {way for way in ways if any(name.startswith(way) for name, _, _ in STEPS)}
    assert len(ways) == 12
    assert {change for _, _, expected in STEPS for change in expected} == set(Change)


def test_a_change_is_reported_when_others_can_see_it_and_none_that_was_rolled_back_is(engine: Engine) -> None:
    catalog, seen = Catalog(engine), list[int]()
    catalog.watch(lambda tenant, name, _: seen.append(Catalog(engine).resolve(tenant, name).version))
    catalog.publish(T, N, record_of(b"1"))
    catalog.publish(T, N, record_of(b"2"))
    with pytest.raises(InvalidRequest):
        catalog.canaries.start(T, N, Canary(2, 5))
    assert seen == [1, 2]


def test_an_observer_that_fails_undoes_nothing(engine: Engine) -> None:
    catalog = Catalog(engine)

    def fail(*_: object) -> None:
        raise RuntimeError("an observer's fault")

    catalog.watch(fail)
    assert catalog.publish(T, N, record_of(b"1")).created
    assert catalog.resolve(T, N).version == 1


def test_a_change_whose_commit_was_never_answered_is_reported(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    catalog, told = Catalog(engine), Told()
    catalog.watch(lambda *change: told.append(change))

    @contextmanager
    def unanswered(bound: Engine, tenant: str) -> Iterator[Session]:
        with writing(bound, tenant) as session:
            yield session
        raise StorageUnavailable("the database went away")

    monkeypatch.setattr(changes, "writing", unanswered)
    with pytest.raises(StorageUnavailable):
        catalog.publish(T, N, record_of(b"1"))
    assert told == [(T, N, Change.PUBLISHED)]
