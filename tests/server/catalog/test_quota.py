"""How much a tenant may store."""

import threading
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine

from harness.adapters.records import record_of
from headmix_server.catalog.catalog import Catalog
from headmix_server.catalog.quota import Quota
from headmix_server.catalog.version import AdapterRecord
from headmix_server.core.errors import RateLimitExceeded
from headmix_server.database import open_database

BYTES = 100


def record(name: str) -> AdapterRecord:
    return record_of(name.encode().ljust(BYTES))


@pytest.fixture
def catalog(database_url: str) -> Iterator[Catalog]:
    engine: Engine = open_database(database_url)
    yield Catalog(engine)
    engine.dispose()


def test_a_name_over_the_quota_is_refused_and_a_new_version_is_not(catalog: Catalog) -> None:
    quota = Quota(adapters=1)
    catalog.publish("acme", "tone", record("a"), quota=quota)
    catalog.publish("acme", "tone", record("b"), quota=quota)
    with pytest.raises(RateLimitExceeded) as refused:
        catalog.publish("acme", "mood", record("c"), quota=quota)
    assert (refused.value.limit, refused.value.param, refused.value.retry_after) == ("adapters", "name", None)
    catalog.publish("other", "mood", record("c"), quota=quota)
    catalog.delete("acme", "tone")
    catalog.publish("acme", "mood", record("c"), quota=quota)


def test_bytes_over_the_quota_are_refused_and_nothing_changes(catalog: Catalog) -> None:
    quota = Quota(stored_bytes=2 * BYTES)
    for content in "ab":
        catalog.publish("acme", "tone", record(content), quota=quota)
    with pytest.raises(RateLimitExceeded) as refused:
        catalog.publish("acme", "tone", record("c"), quota=quota)
    assert (refused.value.limit, refused.value.param) == ("stored_bytes", "file")
    assert catalog.resolve("acme", "tone").version == 2
    assert len(catalog.versions("acme", "tone").versions) == 2


def test_a_tenant_pays_for_bytes_it_has_under_several_names_once_and_for_no_one_elses(catalog: Catalog) -> None:
    quota = Quota(stored_bytes=BYTES)
    catalog.publish("other", "tone", record("b"))
    for name in ("tone", "mood", "tone"):
        catalog.publish("acme", name, record("a"), quota=quota)
    with pytest.raises(RateLimitExceeded):  # the other tenant's bytes are stored already, which must not be visible
        catalog.publish("acme", "tone", record("b"), quota=quota)


def test_an_upload_is_refused_before_its_bytes_unless_they_may_be_stored_already(catalog: Catalog) -> None:
    quota = Quota(stored_bytes=BYTES)
    catalog.publish("acme", "tone", record("a"), quota=quota)
    catalog.check_upload("acme", quota, least=BYTES - 10, most=BYTES + 10)
    catalog.check_upload("other", quota, least=BYTES, most=BYTES + 10)
    with pytest.raises(RateLimitExceeded):
        catalog.check_upload("acme", quota, least=BYTES + 1, most=BYTES + 10)


def test_uploads_at_once_do_not_share_the_last_place(catalog: Catalog) -> None:
    quota, refused, start = Quota(adapters=3), list[str](), threading.Barrier(8)

    def publish(name: str) -> None:
        start.wait()
        try:
            catalog.publish("acme", name, record(name), quota=quota)
        except RateLimitExceeded:
            refused.append(name)

    threads = [threading.Thread(target=publish, args=(f"adapter-{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(catalog.list("acme")), len(refused)) == (3, 5)


def test_a_declared_upload_counts_beside_what_is_stored(catalog: Catalog) -> None:
    quota = Quota(stored_bytes=BYTES + BYTES // 2)
    catalog.publish("acme", "tone", record("a"), quota=quota)
    with pytest.raises(RateLimitExceeded):
        catalog.check_upload("acme", quota, least=BYTES - 20, most=BYTES - 10)
    catalog.check_upload("acme", quota, least=BYTES // 2, most=BYTES // 2)
