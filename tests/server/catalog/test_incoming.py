"""Uploads in progress count like stored bytes, their number is limited, and no tenant keeps others from uploading."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial

import pytest

from harness.adapters.records import record_of
from headmix_server.catalog.catalog import Catalog
from headmix_server.catalog.incoming import Incoming, IncomingUpload
from headmix_server.catalog.quota import Quota, Room, Stored
from headmix_server.core.errors import RateLimitExceeded, ServerOverloaded, StorageUnavailable
from headmix_server.database import open_database

BYTES = 100
NO_QUOTA = Quota()


def nothing_stored() -> Room:
    return Room(Stored(0), 0)


@pytest.fixture
def catalog(database_url: str) -> Iterator[Catalog]:
    engine = open_database(database_url)
    yield Catalog(engine)
    engine.dispose()


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


class Uploads:
    """Starts uploads, each of which lasts until the end of the test."""

    def __init__(self, incoming: Incoming, opened: ExitStack) -> None:
        self.incoming = incoming
        self._opened = opened

    def begin(self, tenant: str, quota: Quota = NO_QUOTA, room: Room = Room(Stored(0), 0)) -> IncomingUpload:  # noqa: B008 - frozen
        return self._opened.enter_context(self.incoming.upload(tenant, quota, lambda: room))


@pytest.fixture
def uploads(opened: ExitStack) -> Uploads:
    return Uploads(Incoming(most=6, most_each=4), opened)


def test_bytes_are_refused_where_they_exceed_the_quota_and_not_counted(uploads: Uploads) -> None:
    quota, room = Quota(stored_bytes=BYTES), Room(Stored(30), 0)
    first, second = (uploads.begin("acme", quota, room) for _ in range(2))
    first.grow(40)
    second.grow(30)
    with pytest.raises(RateLimitExceeded, match="it stores 30, 40 of other uploads are arriving") as refused:
        second.grow(1)
    assert (refused.value.limit, refused.value.param, refused.value.retry_after) == ("stored_bytes", "file", 1)
    with pytest.raises(RateLimitExceeded) as refused:  # it would not fit even without the others
        first.grow(31)
    assert refused.value.retry_after is None
    assert uploads.incoming.arrived("acme") == 70
    uploads.begin("other", quota, room).grow(70)


def test_released_bytes_no_longer_count(uploads: Uploads) -> None:
    quota = Quota(stored_bytes=BYTES)
    with uploads.incoming.upload("acme", quota, nothing_stored) as upload:
        upload.grow(BYTES)
        upload.shrink()
        upload.grow(BYTES)
    assert uploads.incoming.arrived("acme") == 0
    uploads.begin("acme", quota).grow(BYTES)


def test_uploads_at_once_never_have_more_than_the_quota_together(opened: ExitStack) -> None:
    quota, incoming, start = Quota(stored_bytes=1000), Incoming(most=8, most_each=8), threading.Barrier(8)
    uploads = [opened.enter_context(incoming.upload("acme", quota, nothing_stored)) for _ in range(8)]
    most = []

    def write(upload: IncomingUpload) -> None:
        start.wait()
        for _ in range(400):
            try:
                upload.grow(1)
            except RateLimitExceeded:
                return
            most.append(incoming.arrived("acme"))

    threads = [threading.Thread(target=write, args=(upload,)) for upload in uploads]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert incoming.arrived("acme") == 1000
    assert max(most) <= 1000 + len(uploads)  # counted, about to be refused


def test_what_another_upload_stored_meanwhile_counts_and_what_was_deleted_does_not(catalog: Catalog) -> None:
    quota, incoming = Quota(stored_bytes=2 * BYTES), Incoming(most=4, most_each=4)
    records = [record_of(name.encode().ljust(BYTES)) for name in "ab"]
    read_room = partial(catalog.read_room, "acme", least=0, most=BYTES - 1)
    with incoming.upload("acme", quota, read_room) as slow:
        slow.grow(1)
        with incoming.upload("acme", quota, read_room) as quick:
            quick.grow(BYTES)
            catalog.publish("acme", "tone", records[0], quota=quota)
        catalog.publish("acme", "mood", records[1], quota=quota)
        with pytest.raises(RateLimitExceeded):
            slow.grow(1)
        catalog.delete("acme", "mood")
        catalog.tombstones.bury(records[1].digest)
        slow.grow(BYTES - 1)


def test_an_upload_that_may_repeat_what_is_stored_is_let_in_once(catalog: Catalog) -> None:
    quota, incoming = Quota(stored_bytes=BYTES), Incoming(most=4, most_each=4)
    catalog.publish("acme", "tone", record_of(b"a".ljust(BYTES)), quota=quota)
    for most in (BYTES + 10, None):
        read_room = partial(catalog.read_room, "acme", least=0, most=most)
        with incoming.upload("acme", quota, read_room) as again, incoming.upload("acme", quota, read_room) as second:
            again.grow(BYTES)
            with pytest.raises(RateLimitExceeded):
                second.grow(BYTES)
    read_room = partial(catalog.read_room, "acme", least=0, most=BYTES - 1)
    with incoming.upload("acme", quota, read_room) as other, pytest.raises(RateLimitExceeded):
        other.grow(1)


def test_an_unavailable_database_admits_nothing_and_counts_nothing(opened: ExitStack) -> None:
    def away() -> Room:
        raise StorageUnavailable("away")

    incoming = Incoming(most=1, most_each=1)
    upload = opened.enter_context(incoming.upload("acme", Quota(stored_bytes=BYTES), away))
    with pytest.raises(StorageUnavailable):
        upload.grow(1)
    assert incoming.arrived("acme") == 0


def test_a_tenants_concurrent_uploads_are_limited(uploads: Uploads) -> None:
    for _ in range(4):
        uploads.begin("acme")
    with pytest.raises(RateLimitExceeded) as refused:
        uploads.begin("acme")
    assert (refused.value.limit, refused.value.retry_after) == ("uploads", 1)
    uploads.begin("other")


def test_a_tenant_with_fewer_takes_the_place_of_the_newest_of_the_one_with_most(uploads: Uploads) -> None:
    first, *_, newest = [uploads.begin("a") for _ in range(4)]
    others = [uploads.begin("b") for _ in range(2)]
    others.append(uploads.begin("c"))
    assert uploads.incoming.under_way == 6
    with pytest.raises(ServerOverloaded) as refused:
        newest.grow(1)
    assert refused.value.retry_after == 1
    for upload in (first, *others):
        upload.grow(1)
    with pytest.raises(ServerOverloaded):  # it would have as many as the one that gives one up
        uploads.begin("b")


def test_an_upload_whose_bytes_are_all_there_keeps_its_place(uploads: Uploads) -> None:
    for _ in range(4):
        uploads.begin("a").received()
    for _ in range(2):
        uploads.begin("b")
    with pytest.raises(ServerOverloaded) as refused:
        uploads.begin("c")
    assert refused.value.retry_after == 1
