import threading
from collections.abc import Iterator

import pytest

from harness.adapters.records import digest_of, record_of
from headmix_adapters.config import encode_config, without_metadata
from headmix_server.catalog.catalog import Catalog
from headmix_server.catalog.descriptions import Description
from headmix_server.core.errors import InvalidRequest, ModelNotFound
from headmix_server.database import open_database


@pytest.fixture
def catalog(database_url: str) -> Iterator[Catalog]:
    engine = open_database(database_url)
    yield Catalog(engine, reserved={"base"})
    engine.dispose()


def test_a_version_has_everything_its_record_had(catalog: Catalog) -> None:
    record = record_of(b"one", labels=("no", "yes"))
    published = catalog.publish("acme", "spam", record)
    version = catalog.resolve("acme", "spam")
    assert published.created
    assert published.version == version
    assert (version.tenant, version.name, version.version, version.reference) == ("acme", "spam", 1, "spam@1")
    assert (version.digest, version.size_bytes, version.num_parameters) == (record.digest, 3, 7)
    assert (version.task, version.method, version.labels) == ("classification", "kernel-mix", ("no", "yes"))
    assert (version.base_name, version.current) == ("tiny", True)
    assert version.sites == {"q": {"head": {"rank": 2, "base": "x", "scale": 1.0, "bias": True}}}
    assert version.config == without_metadata(record.config)
    assert version.config_bytes == len(encode_config(version.config))
    assert catalog.descriptions.of(version.digest) == Description((), {"data": "one"})


def test_the_same_bytes_again_are_no_new_version_and_other_bytes_are(catalog: Catalog) -> None:
    assert catalog.publish("acme", "a", record_of(b"1")).created
    assert not catalog.publish("acme", "a", record_of(b"1")).created
    assert catalog.publish("acme", "a", record_of(b"2")).version.version == 2
    again = catalog.publish("acme", "a", record_of(b"1"))
    assert (again.created, again.version.version) == (True, 3)
    assert [(v.version, v.current) for v in catalog.versions("acme", "a").versions] == [
        (3, True),
        (2, False),
        (1, False),
    ]


def test_a_pinned_version_stays_while_the_current_one_moves(catalog: Catalog) -> None:
    for content in (b"1", b"2"):
        catalog.publish("acme", "a", record_of(content))
    assert catalog.resolve("acme", "a").digest == digest_of(b"2")
    assert catalog.resolve("acme", "a@1").digest == digest_of(b"1")
    assert not catalog.resolve("acme", "a@1").current


def test_rolling_back_goes_further_back_each_time_and_a_named_version_is_one_more_change(catalog: Catalog) -> None:
    for content in (b"1", b"2", b"3"):
        catalog.publish("acme", "a", record_of(content))
    assert catalog.rollback("acme", "a").version == 2
    assert catalog.rollback("acme", "a").version == 1
    with pytest.raises(InvalidRequest) as caught:
        catalog.rollback("acme", "a")
    assert caught.value.param == "version"
    assert catalog.rollback("acme", "a", 3).version == 3
    assert catalog.rollback("acme", "a", 3).version == 3
    assert catalog.rollback("acme", "a").version == 1
    assert catalog.resolve("acme", "a").version == 1
    assert catalog.publish("acme", "a", record_of(b"4")).version.version == 4


@pytest.mark.parametrize("version", [0, -1, 9, 2**70, -(2**70)])
def test_rolling_back_to_no_version_changes_nothing(catalog: Catalog, version: int) -> None:
    catalog.publish("acme", "a", record_of(b"1"))
    with pytest.raises(ModelNotFound):
        catalog.rollback("acme", "a", version)
    assert catalog.resolve("acme", "a").version == 1


@pytest.mark.parametrize("model", ["theirs", "theirs@1", "nobodys", "mine@2", "Not A Name", "\ud800", "x\x00y", ""])
def test_anothers_adapter_is_indistinguishable_from_a_missing_one(catalog: Catalog, model: str) -> None:
    catalog.publish("acme", "mine", record_of(b"1"))
    catalog.publish("other", "theirs", record_of(b"2"))
    with pytest.raises(ModelNotFound) as caught:
        catalog.resolve("acme", model)
    assert caught.value.message == f"The model {model!r} does not exist."
    assert caught.value.param == "model"
    caught.value.message.encode()


def test_no_route_reaches_another_tenants_adapter(catalog: Catalog) -> None:
    catalog.publish("other", "theirs", record_of(b"2"))
    for ask in (catalog.resolve, catalog.versions, catalog.rollback, catalog.delete):
        with pytest.raises(ModelNotFound, match=r"^The model 'theirs' does not exist\.$"):
            ask("acme", "theirs")
    assert catalog.list("acme") == ()
    assert catalog.resolve("other", "theirs").version == 1


@pytest.mark.parametrize("ask", ["versions", "rollback", "delete"])
def test_a_pinned_reference_is_not_taken_for_the_adapter(catalog: Catalog, ask: str) -> None:
    catalog.publish("acme", "a", record_of(b"1"))
    with pytest.raises(ModelNotFound):
        getattr(catalog, ask)("acme", "a@1")
    assert catalog.resolve("acme", "a").version == 1


def test_the_same_name_of_two_tenants_is_two_adapters(catalog: Catalog) -> None:
    catalog.publish("acme", "a", record_of(b"1"))
    catalog.publish("other", "a", record_of(b"2"))
    assert catalog.resolve("acme", "a").digest == digest_of(b"1")
    assert catalog.resolve("other", "a").digest == digest_of(b"2")


def test_a_deleted_adapter_is_gone_and_its_version_numbers_stay_used(catalog: Catalog) -> None:
    for content in (b"1", b"2"):
        catalog.publish("acme", "a", record_of(content))
    deleted = catalog.delete("acme", "a")
    assert deleted.versions == (2, 1)
    assert set(deleted.digests) == {digest_of(b"1"), digest_of(b"2")}
    for model in ("a", "a@1"):
        with pytest.raises(ModelNotFound):
            catalog.resolve("acme", model)
    with pytest.raises(ModelNotFound):
        catalog.delete("acme", "a")
    assert catalog.list("acme") == ()
    again = catalog.publish("acme", "a", record_of(b"2"))
    assert (again.created, again.version.version) == (True, 3)
    with pytest.raises(InvalidRequest):
        catalog.rollback("acme", "a")


def test_an_artifact_outlives_all_but_the_burial_of_its_last_version(catalog: Catalog) -> None:
    digest = digest_of(b"1")
    for tenant, name in (("acme", "a"), ("acme", "b"), ("other", "c")):
        catalog.publish(tenant, name, record_of(b"1"))
    assert catalog.owners({digest}) == {digest: (("acme", "a"), ("acme", "b"), ("other", "c"))}
    for tenant, name in (("acme", "a"), ("other", "c")):
        catalog.delete(tenant, name)
        assert catalog.refers_to(digest)
        assert not catalog.tombstones.bury(digest)
    assert catalog.stored_digests() == catalog.referenced_digests() == {digest}
    catalog.delete("acme", "b")
    assert not catalog.refers_to(digest)
    assert catalog.referenced_digests() == frozenset()
    assert catalog.stored_digests() == {digest}
    assert catalog.tombstones.digests() == {digest}
    assert catalog.tombstones.bury(digest)
    assert catalog.stored_digests() == catalog.tombstones.digests() == frozenset()
    assert not catalog.tombstones.bury(digest)


def test_owners_are_returned_for_the_requested_digests_and_no_others(catalog: Catalog) -> None:
    for content in (b"1", b"2", b"3"):
        catalog.publish("acme", f"a{content.decode()}", record_of(content))
    catalog.delete("acme", "a3")
    asked = [digest_of(content) for content in (b"1", b"3", b"nobody's")]
    assert catalog.owners(asked) == {digest_of(b"1"): (("acme", "a1"),)}
    assert catalog.owners([]) == {}


def test_no_adapter_can_have_the_bases_name(catalog: Catalog) -> None:
    with pytest.raises(InvalidRequest):
        catalog.publish("acme", "base", record_of(b"1"))
    assert catalog.list("acme") == ()


def test_simultaneous_publications_of_a_name_all_become_versions(catalog: Catalog) -> None:
    start = threading.Barrier(8)
    numbers: list[int] = []

    def publish(content: bytes) -> None:
        start.wait()
        numbers.append(catalog.publish("acme", "a", record_of(content)).version.version)

    threads = [threading.Thread(target=publish, args=(f"{index}".encode(),)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(numbers) == list(range(1, 9))
    assert catalog.resolve("acme", "a").version == 8
    assert len({version.digest for version in catalog.versions("acme", "a").versions}) == 8


def test_readers_always_find_a_current_version_while_it_is_replaced(catalog: Catalog) -> None:
    catalog.publish("acme", "a", record_of(b"0"))
    done = threading.Event()
    seen: list[int] = []

    def read() -> None:
        while not done.is_set():
            seen.append(catalog.resolve("acme", "a").version)

    reader = threading.Thread(target=read)
    reader.start()
    for index in range(1, 20):
        catalog.publish("acme", "a", record_of(f"{index}".encode()))
    done.set()
    reader.join()
    assert seen == sorted(seen)
    assert seen


def test_everything_is_there_after_a_restart(database_url: str) -> None:
    engine = open_database(database_url)
    before = Catalog(engine).publish("acme", "a", record_of(b"1", labels=("x",))).version
    engine.dispose()
    again = open_database(database_url)
    assert Catalog(again).resolve("acme", "a") == before
    again.dispose()
