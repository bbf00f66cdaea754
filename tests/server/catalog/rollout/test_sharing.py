import pytest
from sqlalchemy import Engine

from harness.adapters.records import record_of
from headmix_server.catalog.catalog import Catalog
from headmix_server.catalog.rollout.sharing import Shares
from headmix_server.catalog.version import VersionState
from headmix_server.core.errors import Forbidden, InvalidRequest, ModelNotFound
from headmix_server.database import audit_entries, reading

EVERYONE = Shares(everyone=True)


@pytest.fixture
def catalog(engine: Engine) -> Catalog:
    catalog = Catalog(engine)
    for content in (b"1", b"2"):
        catalog.publish("acme", "tone", record_of(content))
    return catalog


def names(catalog: Catalog, tenant: str) -> list[str]:
    return [version.called_by(tenant) for version in catalog.sharing.visible(tenant).versions]


def test_a_shared_adapter_is_used_by_the_tenants_named_and_by_nobody_else(catalog: Catalog) -> None:
    assert catalog.sharing.of("acme", "tone") == Shares()
    assert catalog.sharing.change("acme", "tone", Shares(tenants=("c", "b", "b"))) == Shares(tenants=("b", "c"))
    assert catalog.sharing.of("acme", "tone") == Shares(tenants=("b", "c"))
    for tenant in ("b", "c"):
        assert catalog.resolve(tenant, "acme/tone").version == 2
        assert catalog.resolve(tenant, "acme/tone@1").version == 1
        assert [version.version for version in catalog.versions(tenant, "acme/tone").versions] == [2, 1]
        assert names(catalog, tenant) == ["acme/tone"]
    for model in ("acme/tone", "acme/tone@1", "tone"):
        with pytest.raises(ModelNotFound):
            catalog.resolve("d", model)
    with pytest.raises(ModelNotFound):
        catalog.versions("d", "acme/tone")
    assert names(catalog, "d") == []


def test_sharing_with_everyone_needs_no_tenants_name(catalog: Catalog) -> None:
    assert catalog.sharing.change("acme", "tone", EVERYONE) == EVERYONE
    assert catalog.sharing.of("acme", "tone") == EVERYONE
    assert catalog.resolve("whoever", "acme/tone").version == 2
    assert names(catalog, "acme") == ["tone"]


def test_a_change_replaces_all_shares_and_an_empty_one_shares_with_nobody(catalog: Catalog) -> None:
    for shares in (EVERYONE, Shares(tenants=("b",)), Shares(tenants=("c",)), Shares()):
        catalog.sharing.change("acme", "tone", shares)
        assert catalog.sharing.of("acme", "tone") == shares
        may = [tenant for tenant in ("b", "c", "d") if names(catalog, tenant)]
        assert may == (["b", "c", "d"] if shares.everyone else list(shares.tenants))


def test_only_the_owner_shares_and_its_own_adapter_has_two_names(catalog: Catalog) -> None:
    catalog.sharing.change("acme", "tone", EVERYONE)
    assert catalog.resolve("acme", "acme/tone") == catalog.resolve("acme", "tone")
    assert catalog.sharing.own_name("acme", "acme/tone") == "tone"
    for name in ("tone", "acme/tone"):
        with pytest.raises(ModelNotFound):
            catalog.sharing.of("b", name)
        with pytest.raises(ModelNotFound):
            catalog.sharing.change("b", name, Shares())
    assert catalog.sharing.of("acme", "tone") == EVERYONE


@pytest.mark.parametrize("tenant", ["acme", "", "*", "No Name", "a/b", "\ud800"])
def test_what_cannot_be_another_tenant_is_refused_and_nothing_changes(catalog: Catalog, tenant: str) -> None:
    catalog.sharing.change("acme", "tone", Shares(tenants=("b",)))
    with pytest.raises(InvalidRequest) as caught:
        catalog.sharing.change("acme", "tone", Shares(tenants=("c", tenant)))
    assert caught.value.param == "tenants"
    assert catalog.sharing.of("acme", "tone") == Shares(tenants=("b",))


def test_tenants_that_share_an_adapter_are_forbidden_to_change_it_and_others_do_not_find_it(
    catalog: Catalog,
) -> None:
    catalog.sharing.change("acme", "tone", Shares(tenants=("b",)))
    with pytest.raises(Forbidden):
        catalog.sharing.own_name("b", "acme/tone")
    for tenant, model in (("c", "acme/tone"), ("b", "acme/other"), ("b", "acme/tone@1"), ("b", "a/b/c"), ("b", "/")):
        with pytest.raises(ModelNotFound):
            catalog.sharing.own_name(tenant, model)


def test_a_deleted_adapter_is_no_longer_shared_even_with_a_new_version(catalog: Catalog) -> None:
    catalog.sharing.change("acme", "tone", EVERYONE)
    catalog.delete("acme", "tone")
    assert names(catalog, "b") == []
    catalog.publish("acme", "tone", record_of(b"3"))
    assert catalog.sharing.of("acme", "tone") == Shares()
    with pytest.raises(ModelNotFound):
        catalog.resolve("b", "acme/tone")


def test_a_retired_version_of_a_shared_adapter_cannot_be_named_either(catalog: Catalog) -> None:
    catalog.sharing.change("acme", "tone", EVERYONE)
    catalog.set_state("acme", "tone", 1, VersionState.RETIRED)
    with pytest.raises(ModelNotFound):
        catalog.resolve("b", "acme/tone@1")


def test_own_adapters_are_listed_first_and_pages_fit_together(catalog: Catalog) -> None:
    for owner, name in (("b", "mine"), ("b", "own"), ("zoo", "ant"), ("zoo", "bee"), ("c", "x")):
        catalog.publish(owner, name, record_of(b"1"))
    for owner, name in (("acme", "tone"), ("zoo", "ant")):
        catalog.sharing.change(owner, name, Shares(tenants=("b",)))
    for owner, name in (("zoo", "bee"), ("b", "own")):
        catalog.sharing.change(owner, name, EVERYONE)
    expected = ["mine", "own", "acme/tone", "zoo/ant", "zoo/bee"]
    assert names(catalog, "b") == expected
    for size in range(1, 7):
        pages, after = list[str](), ""
        while page := catalog.sharing.visible("b", after=after, limit=size).versions:
            assert len(page) <= size
            pages += [version.called_by("b") for version in page]
            after = pages[-1]
        assert pages == expected


def test_every_change_is_in_the_audit(catalog: Catalog, engine: Engine) -> None:
    catalog.sharing.change("acme", "tone", Shares(tenants=("b",)), actor="key_1")
    catalog.sharing.change("acme", "tone", EVERYONE, actor="key_1")
    catalog.sharing.change("acme", "tone", Shares(), actor="key_2")
    with reading(engine) as session:
        newest = audit_entries(session, tenant="acme", limit=3)
    assert [(entry.actor, entry.action, entry.subject, entry.detail) for entry in reversed(newest)] == [
        ("key_1", "adapter.share", "tone", {"with": ["b"]}),
        ("key_1", "adapter.share", "tone", {"with": ["*"]}),
        ("key_2", "adapter.unshare", "tone", {}),
    ]
