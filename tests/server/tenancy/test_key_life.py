"""A key's life after creation: expiry, rotation, last use, and its entries in the audit log."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Engine

from headmix_server.core.errors import InvalidApiKey, InvalidRequest, ServerOverloaded
from headmix_server.database import audit_entries, open_database, reading, writing
from headmix_server.tenancy.keys.key_info import KeyInfo
from headmix_server.tenancy.keys.keys import Keys
from headmix_server.tenancy.keys.principal import Scope


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def keys(engine: Engine, clock: Clock) -> Keys:
    return Keys(engine, clock=clock)


def test_a_key_is_valid_until_the_second_it_expires(keys: Keys, clock: Clock) -> None:
    new = keys.create("acme", ["inference"], expires=int(clock.now) + 60)
    clock.now += 59
    assert keys.authenticate(new.plaintext).tenant == "acme"
    clock.now += 1
    with pytest.raises(InvalidApiKey, match=r"^The API key is not valid\.$"):
        keys.authenticate(new.plaintext)
    assert keys.list("acme")[0].expires == clock.now
    assert not keys.revoke("acme", new.info.key_id)
    assert keys.rotate("acme", new.info.key_id) is None


def test_a_key_that_would_be_expired_is_not_made(keys: Keys, clock: Clock) -> None:
    with pytest.raises(InvalidRequest) as caught:
        keys.create("acme", ["inference"], expires=int(clock.now))
    assert caught.value.param == "expires"
    assert keys.list("acme") == ()


def test_a_rotated_key_is_replaced_by_one_of_the_same_rights_at_once(keys: Keys, clock: Clock) -> None:
    old = keys.create("acme", ["inference", "adapters"], name="ci", expires=int(clock.now) + 900)
    new = keys.rotate("acme", old.info.key_id)
    assert new is not None
    assert keys.authenticate(new.plaintext).scopes == {Scope.INFERENCE, Scope.ADAPTERS}
    assert (new.info.name, new.info.expires) == ("ci", old.info.expires)
    with pytest.raises(InvalidApiKey):
        keys.authenticate(old.plaintext)


def test_with_a_grace_both_keys_are_valid_until_it_is_over_and_never_longer_than_the_old_one_was(
    keys: Keys, clock: Clock
) -> None:
    forever = keys.create("acme", ["inference"])
    short = keys.create("acme", ["inference"], expires=int(clock.now) + 10)
    for old in (forever, short):
        assert keys.rotate("acme", old.info.key_id, grace_seconds=60) is not None
        assert keys.authenticate(old.plaintext)
    clock.now += 10
    assert keys.authenticate(forever.plaintext)
    with pytest.raises(InvalidApiKey):
        keys.authenticate(short.plaintext)
    clock.now += 50
    with pytest.raises(InvalidApiKey):
        keys.authenticate(forever.plaintext)


def test_only_its_own_tenant_rotates_a_key(keys: Keys) -> None:
    key = keys.create("acme", ["inference"])
    assert keys.rotate("other", key.info.key_id) is None
    assert keys.authenticate(key.plaintext)


def test_the_last_use_is_reported_at_once_and_stored_once_flushed(keys: Keys, engine: Engine, clock: Clock) -> None:
    used, unused = keys.create("acme", ["inference"]), keys.create("acme", ["inference"])
    clock.now += 5
    keys.authenticate(used.plaintext)

    def last_used(of: Keys) -> dict[str, int | None]:
        return {info.key_id: info.last_used for info in of.list("acme")}

    expected = {used.info.key_id: int(clock.now), unused.info.key_id: None}
    assert last_used(keys) == expected
    assert last_used(Keys(engine))[used.info.key_id] is None
    keys.flush_last_used()
    assert last_used(Keys(engine)) == expected


def test_a_use_that_could_not_be_written_is_written_the_next_time(database_url: str) -> None:
    engine = open_database(database_url, busy_seconds=0.05)
    blocker = open_database(database_url)
    keys = Keys(engine)
    key = keys.create("acme", ["inference"])
    keys.authenticate(key.plaintext)
    with writing(blocker), pytest.raises(ServerOverloaded):
        keys.flush_last_used()
    keys.flush_last_used()
    assert Keys(engine).list("acme")[0].last_used is not None
    engine.dispose()
    blocker.dispose()


def test_every_change_of_a_key_is_in_the_audit_with_who_made_it_and_no_text(keys: Keys, engine: Engine) -> None:
    first = keys.create("acme", ["inference"], actor="key_root")
    second = keys.rotate("acme", first.info.key_id, grace_seconds=5, actor="key_root")
    assert second is not None
    keys.revoke("acme", second.info.key_id, actor="key_other")
    keys.revoke("acme", "key_unknown", actor="key_other")
    with reading(engine) as session:
        entries = audit_entries(session, tenant="acme", limit=10)
    assert [(entry.action, entry.subject, entry.actor) for entry in reversed(entries)] == [
        ("key.create", first.info.key_id, "key_root"),
        ("key.create", second.info.key_id, "key_root"),
        ("key.rotate", first.info.key_id, "key_root"),
        ("key.revoke", second.info.key_id, "key_other"),
    ]
    assert first.plaintext not in repr(entries)
    assert second.plaintext not in repr(entries)


def test_the_audit_is_read_newest_first_page_by_page_and_by_tenant(keys: Keys, engine: Engine) -> None:
    for tenant in ("acme", "other", "acme"):
        keys.create(tenant, ["inference"])
    with reading(engine) as session:
        everything = audit_entries(session, limit=10)
        first = audit_entries(session, limit=2)
        rest = audit_entries(session, before=first[-1].number, limit=2)
        mine = audit_entries(session, tenant="acme", limit=10)
    assert first + rest == everything
    assert [entry.tenant for entry in everything] == ["acme", "other", "acme"]
    assert [entry.tenant for entry in mine] == ["acme", "acme"]


def test_the_last_key_that_may_administer_cannot_be_revoked_but_can_be_replaced(keys: Keys, clock: Clock) -> None:
    first = keys.create("default", ["admin"])
    keys.create("acme", ["inference"])
    keys.create("acme", ["admin"], expires=int(clock.now) + 5)
    clock.now += 5
    with pytest.raises(InvalidRequest, match="No other valid key"):
        keys.revoke("default", first.info.key_id)
    second = keys.rotate("default", first.info.key_id)
    assert second is not None
    keys.create("acme", ["admin"])
    assert keys.revoke("default", second.info.key_id)


@pytest.mark.parametrize(
    ("own", "others", "may_go"),
    [
        (None, [10], False),
        (None, [10, 10**9], False),
        (None, [None], True),
        (100, [99], False),
        (100, [99, 100], True),
        (100, [None], True),
    ],
)
def test_an_administrators_key_goes_only_while_another_lasts_as_long(
    own: int | None, others: list[int | None], may_go: bool, keys: Keys, clock: Clock
) -> None:
    def make(seconds: int | None, tenant: str) -> str:
        expires = None if seconds is None else int(clock.now) + seconds
        return keys.create(tenant, ["admin"], expires=expires).info.key_id

    key = make(own, "default")
    for other in others:
        make(other, "acme")
    keys.create("acme", ["inference"])
    if may_go:
        assert keys.revoke("default", key)
    else:
        with pytest.raises(InvalidRequest, match="lasts as long"):
            keys.revoke("default", key)
        assert [info.revoked for info in keys.list("default")] == [None]


def test_two_administrators_that_revoke_each_other_at_once_leave_one(engine: Engine) -> None:
    keys = Keys(engine)
    made = [keys.create(tenant, ["admin"]).info for tenant in ("default", "acme")]
    barrier = threading.Barrier(2)

    def revoke(info: KeyInfo) -> bool:
        barrier.wait()
        try:
            return keys.revoke(info.tenant, info.key_id)
        except InvalidRequest:
            return False

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(revoke, made)) == [False, True]
