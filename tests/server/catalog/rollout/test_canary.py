from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine

from harness.adapters.records import record_of
from headmix_server.catalog.catalog import Catalog
from headmix_server.catalog.changes import Change
from headmix_server.catalog.rollout.canary import draw_of
from headmix_server.catalog.rollout.sharing import Shares
from headmix_server.catalog.version import Canary, VersionState
from headmix_server.core.errors import InvalidRequest, ModelNotFound
from headmix_server.database import audit_entries, reading


@pytest.fixture
def catalog(engine: Engine) -> Catalog:
    """A name with two versions, of which the first is current."""
    catalog = Catalog(engine)
    catalog.publish("acme", "tone", record_of(b"1"))
    catalog.publish("acme", "tone", record_of(b"2"), current=False)
    return catalog


def answers(catalog: Catalog, model: str = "tone", tenant: str = "acme") -> Counter[int]:
    """Count which version answers, over all draws."""
    return Counter(catalog.resolve(tenant, model, draw=draw).version for draw in range(100))


def test_a_version_can_be_uploaded_beside_the_current_one(catalog: Catalog) -> None:
    assert catalog.resolve("acme", "tone").version == 1
    assert [(v.version, v.current) for v in catalog.versions("acme", "tone").versions] == [(2, False), (1, True)]
    again = catalog.publish("acme", "tone", record_of(b"2"), current=False)
    assert (again.created, again.version.version) == (False, 2)
    with pytest.raises(InvalidRequest) as caught:
        catalog.publish("acme", "new", record_of(b"2"), current=False)
    assert caught.value.param == "current"
    with pytest.raises(ModelNotFound):
        catalog.resolve("acme", "new")


@pytest.mark.parametrize("percent", [0, 1, 37, 100])
def test_a_canary_gets_its_percentage_of_the_names_requests_and_none_that_name_a_version(
    catalog: Catalog, percent: int
) -> None:
    current = catalog.canaries.start("acme", "tone", Canary(2, percent))
    assert (current.version, current.canary) == (1, Canary(2, percent))
    assert answers(catalog) == Counter({1: 100 - percent, 2: percent}) - Counter()
    assert answers(catalog, "tone@1") == {1: 100}
    assert answers(catalog, "tone@2") == {2: 100}
    assert catalog.resolve("acme", "tone").version == 1
    catalog.sharing.change("acme", "tone", Shares(tenants=("b",)))
    assert answers(catalog, "acme/tone", "b")[2] == percent


def test_starting_again_changes_version_and_percentage_and_returns_whether_it_is_another_version(
    catalog: Catalog,
) -> None:
    catalog.publish("acme", "tone", record_of(b"3"), current=False)
    told: list[Change] = []
    catalog.watch(lambda _tenant, _name, change: told.append(change))
    catalog.canaries.start("acme", "tone", Canary(2, 5))
    catalog.canaries.start("acme", "tone", Canary(2, 50))
    assert answers(catalog)[2] == 50
    catalog.canaries.start("acme", "tone", Canary(3, 10))
    assert answers(catalog) == {1: 90, 3: 10}
    assert told == [Change.CANARY_STARTED, Change.CANARY_RESIZED, Change.CANARY_STARTED]


def test_a_promoted_canary_is_current_and_a_rollback_undoes_it(catalog: Catalog) -> None:
    catalog.canaries.start("acme", "tone", Canary(2, 10))
    promoted = catalog.canaries.promote("acme", "tone")
    assert (promoted.version, promoted.canary) == (2, None)
    assert answers(catalog) == {2: 100}
    assert catalog.rollback("acme", "tone").version == 1
    with pytest.raises(InvalidRequest, match="No canary"):
        catalog.canaries.promote("acme", "tone")


def test_a_canary_ends_on_request_and_when_another_version_becomes_current(catalog: Catalog) -> None:
    def start() -> None:
        catalog.canaries.start("acme", "tone", Canary(2, 10))

    start()
    assert catalog.canaries.end("acme", "tone").canary is None
    assert catalog.canaries.end("acme", "tone").canary is None
    start()
    catalog.publish("acme", "tone", record_of(b"3"), current=False)
    assert catalog.resolve("acme", "tone").canary == Canary(2, 10)
    catalog.publish("acme", "tone", record_of(b"1"))
    assert catalog.resolve("acme", "tone").canary == Canary(2, 10)
    catalog.publish("acme", "tone", record_of(b"4"))
    assert answers(catalog) == {4: 100}
    start()
    assert catalog.rollback("acme", "tone").canary is None
    start()
    catalog.delete("acme", "tone")
    assert catalog.publish("acme", "tone", record_of(b"2")).version.canary is None


def test_a_version_that_gets_requests_cannot_be_taken_away(catalog: Catalog) -> None:
    catalog.canaries.start("acme", "tone", Canary(2, 10))
    for state in (VersionState.RETIRED, VersionState.DELETED):
        with pytest.raises(InvalidRequest, match="is the canary"):
            catalog.set_state("acme", "tone", 2, state)
    catalog.canaries.end("acme", "tone")
    catalog.set_state("acme", "tone", 2, VersionState.RETIRED)
    with pytest.raises(ModelNotFound):
        catalog.canaries.start("acme", "tone", Canary(2, 10))


@pytest.mark.parametrize("version", [1, 3])
def test_the_current_version_and_one_with_other_results_cannot_be_canaries(catalog: Catalog, version: int) -> None:
    catalog.publish("acme", "tone", record_of(b"3", labels=("a", "b")), current=False)
    with pytest.raises(InvalidRequest) as caught:
        catalog.canaries.start("acme", "tone", Canary(version, 10))
    assert caught.value.param == "version"
    assert catalog.resolve("acme", "tone").canary is None


def test_labels_must_be_the_same_and_in_the_same_order(catalog: Catalog) -> None:
    catalog.publish("acme", "mood", record_of(b"1", labels=("a", "b")))
    catalog.publish("acme", "mood", record_of(b"2", labels=("b", "a")), current=False)
    catalog.publish("acme", "mood", record_of(b"3", labels=("a", "b")), current=False)
    with pytest.raises(InvalidRequest):
        catalog.canaries.start("acme", "mood", Canary(2, 10))
    assert catalog.canaries.start("acme", "mood", Canary(3, 10)).canary == Canary(3, 10)


@pytest.mark.parametrize(("tenant", "name", "version"), [("b", "tone", 2), ("acme", "no", 2), ("acme", "tone", 9)])
def test_only_the_owner_starts_a_canary_of_an_existing_version(
    catalog: Catalog, tenant: str, name: str, version: int
) -> None:
    with pytest.raises(ModelNotFound):
        catalog.canaries.start(tenant, name, Canary(version, 10))
    with pytest.raises(ModelNotFound):
        catalog.canaries.end("b", "tone")
    with pytest.raises(ModelNotFound):
        catalog.canaries.promote("b", "tone")


def test_every_change_is_in_the_audit(catalog: Catalog, engine: Engine) -> None:
    catalog.canaries.start("acme", "tone", Canary(2, 10), actor="key_1")
    catalog.canaries.promote("acme", "tone", actor="key_1")
    catalog.canaries.start("acme", "tone", Canary(1, 10), actor="key_1")
    catalog.rollback("acme", "tone", actor="key_2")
    with reading(engine) as session:
        newest = audit_entries(session, tenant="acme", limit=5)
    assert [(entry.action, entry.subject) for entry in reversed(newest)] == [
        ("canary.start", "tone@2"),
        ("canary.promote", "tone@2"),
        ("canary.start", "tone@1"),
        ("adapter.rollback", "tone@1"),
        ("canary.end", "tone@1"),
    ]


@given(st.text(), st.text())
def test_a_key_always_draws_the_same_number(key: str, model: str) -> None:
    assert draw_of(key, model) == draw_of(key, model)
    assert 0 <= draw_of(key, model) < 100


def test_every_draw_is_as_likely_as_any_other() -> None:
    drawn = Counter(draw_of(f"user-{number}", "tone") for number in range(10_000))
    assert len(drawn) == 100
    assert all(60 <= count <= 150 for count in drawn.values())
    assert [draw_of("user-1", f"tone-{number}") for number in range(5)] != [draw_of("user-1", "tone-0")] * 5
