import hmac
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from headmix_server.core.errors import InvalidApiKey, InvalidRequest
from headmix_server.database import open_database, reading, writing
from headmix_server.tenancy.keys import keys as keys_module
from headmix_server.tenancy.keys.admin_key import FILE_NAME, read_admin_key
from headmix_server.tenancy.keys.keys import Keys
from headmix_server.tenancy.keys.principal import ALL_SCOPES, Scope
from tests.support.storage.crash import Crash, crash_at


@pytest.fixture
def keys(engine: Engine) -> Keys:
    return Keys(engine)


def test_a_key_opens_its_tenant_with_its_scopes(keys: Keys) -> None:
    new = keys.create("acme", ["inference", Scope.ADAPTERS], name="ci")
    assert keys.list("acme") == (new.info,)
    principal = keys.authenticate(new.plaintext)
    assert (principal.tenant, principal.key_id) == ("acme", new.info.key_id)
    assert principal.scopes == {Scope.INFERENCE, Scope.ADAPTERS}
    assert (new.info.name, new.info.revoked) == ("ci", None)
    assert keys.list("other") == ()


def test_a_key_has_256_random_bits_and_the_database_has_not_its_text(
    keys: Keys, engine: Engine, tmp_path: Path
) -> None:
    plaintexts = [keys.create("acme", ["inference"]).plaintext for _ in range(5)]
    assert len(set(plaintexts)) == 5
    with reading(engine) as session:
        rows = session.execute(text("SELECT * FROM keys")).all()
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir()) + repr(rows).encode()
    for plaintext in plaintexts:
        assert re.fullmatch(r"hm_[A-Za-z0-9_-]{43}", plaintext)
        assert plaintext[:11].encode() in stored
        assert plaintext[11:].encode() not in stored


def test_every_wrong_key_gets_the_same_answer(keys: Keys) -> None:
    right = keys.create("acme", ["inference"]).plaintext
    near = right[:-1] + ("A" if right[-1] != "A" else "B")
    for wrong in ("", "hm_", near, right[:-1], right + "\n", right.lower() + "x", "hm_" + "é" * 43, "\ud800", "a\x00b"):
        with pytest.raises(InvalidApiKey, match=r"^The API key is not valid\.$"):
            keys.authenticate(wrong)
    assert keys.authenticate(right).tenant == "acme"


@settings(deadline=None)
@given(st.text())
def test_no_random_text_is_a_key_and_none_raises_an_error(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    folder = tmp_path_factory.getbasetemp() / "no-keys"
    with pytest.raises(InvalidApiKey):
        Keys(open_database(folder / "headmix.db")).authenticate(text)


def test_hashes_are_compared_in_constant_time_whether_or_not_there_is_one(
    keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = keys.create("acme", ["inference"]).plaintext
    compared: list[int] = []
    real = hmac.compare_digest

    def compare(one: bytes, other: bytes) -> bool:
        compared.append(len(one))
        return real(one, other)

    monkeypatch.setattr(hmac, "compare_digest", compare)
    keys.authenticate(right)
    for wrong in ("hm_" + "x" * 43, right[:11] + "x" * 35, "malformed"):
        with pytest.raises(InvalidApiKey):
            keys.authenticate(wrong)
    assert compared == [32, 32, 32, 32]


def test_two_keys_with_the_same_first_characters_are_distinguished(keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    endings = iter(["x" * 43, "x" * 42 + "y"])
    monkeypatch.setattr(secrets, "token_urlsafe", lambda _: next(endings))
    one, two = keys.create("acme", ["inference"]), keys.create("other", ["inference"])
    assert one.info.prefix == two.info.prefix
    assert one.plaintext.startswith(one.info.prefix)
    assert [info.prefix for info in keys.list("acme")] == [one.info.prefix]
    assert keys.authenticate(one.plaintext).tenant == "acme"
    assert keys.authenticate(two.plaintext).tenant == "other"


def test_a_revoked_key_is_invalid_at_once_and_only_its_tenant_can_revoke_it(keys: Keys) -> None:
    new, other = keys.create("acme", ["inference"]), keys.create("acme", ["inference"])
    assert not keys.revoke("other", new.info.key_id)
    assert not keys.revoke("acme", "key_unknown")
    assert keys.authenticate(new.plaintext)
    assert keys.revoke("acme", new.info.key_id)
    assert not keys.revoke("acme", new.info.key_id)
    with pytest.raises(InvalidApiKey, match=r"^The API key is not valid\.$"):
        keys.authenticate(new.plaintext)
    assert keys.authenticate(other.plaintext)
    assert {info.key_id for info in keys.list("acme") if info.revoked is not None} == {new.info.key_id}


@pytest.mark.parametrize(
    ("tenant", "scopes", "param"), [("acme", [], "scopes"), ("acme", ["root"], "scopes"), ("A", ["admin"], "tenant")]
)
def test_a_key_for_nobody_or_nothing_is_refused(keys: Keys, tenant: str, scopes: list[str], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        keys.create(tenant, scopes)
    assert caught.value.param == param
    assert keys.list(tenant) == ()


def test_the_first_start_gives_the_admin_key_once(keys: Keys, tmp_path: Path) -> None:
    plaintext = keys.bootstrap(tmp_path)
    assert plaintext is not None
    assert read_admin_key(tmp_path) == plaintext
    principal = keys.authenticate(plaintext)
    assert (principal.tenant, principal.scopes) == ("default", ALL_SCOPES)
    assert keys.bootstrap(tmp_path) is None
    assert len(keys.list("default")) == 1


def test_an_admin_key_that_was_moved_away_stays_valid_and_is_not_given_again(keys: Keys, tmp_path: Path) -> None:
    plaintext = keys.bootstrap(tmp_path)
    assert plaintext is not None
    (tmp_path / FILE_NAME).unlink()
    assert keys.bootstrap(tmp_path) is None
    assert keys.authenticate(plaintext)


def test_a_crash_at_any_call_of_the_first_start_loses_no_key(tmp_path: Path) -> None:
    crashed = 0
    for call in range(1, 50):
        folder = tmp_path / str(call)
        keys = Keys(open_database(folder / "headmix.db"))
        try:
            with crash_at(call):
                keys.bootstrap(folder)
        except Crash:
            crashed += 1
            left = read_admin_key(folder)
            given = keys.bootstrap(folder)
            assert given is not None
            assert left in {None, given}
            assert keys.authenticate(given).scopes == ALL_SCOPES
        else:
            break
    assert crashed > 3


def test_a_crash_between_file_and_database_keeps_the_key_in_the_file(
    keys: Keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def lost(engine: Engine) -> Iterator[Session]:
        with writing(engine) as session:
            yield session
            raise Crash

    with monkeypatch.context() as patched:
        patched.setattr(keys_module, "writing", lost)
        with pytest.raises(Crash):
            keys.bootstrap(tmp_path)
    left = read_admin_key(tmp_path)
    assert left is not None
    assert keys.bootstrap(tmp_path) == left
    assert keys.authenticate(left)


def test_a_file_that_holds_no_key_is_replaced(keys: Keys, tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text("half a k")
    plaintext = keys.bootstrap(tmp_path)
    assert plaintext is not None
    assert read_admin_key(tmp_path) == plaintext
