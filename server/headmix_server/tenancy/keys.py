"""Keys: made, checked, listed, revoked; and the first one, which a new server gives itself.

A key is `hm_` and 32 random bytes in base64url. Its text exists only where it was handed out: the database has its
sha256 (the text has 256 bits of chance, so a slow hash would add nothing) and its first characters, by which it is
found. What a key may do on a route is the API's to ask of the `Principal`.
"""

import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from headmix_server.core.database import ensure_tenant, reading, writing
from headmix_server.core.errors import InvalidApiKey, InvalidRequest
from headmix_server.tenancy.admin_key import read_admin_key, write_admin_key
from headmix_server.tenancy.models import KeyRow
from headmix_server.tenancy.principal import ALL_SCOPES, Principal, Scope

DEFAULT_TENANT = "default"
_KEY = re.compile(r"hm_[A-Za-z0-9_-]{43}")
_PREFIX_LENGTH = 11
_NO_HASH = bytes(32)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyInfo:
    """A key as it may be shown: everything but its text. Times are Unix seconds."""

    key_id: str
    tenant: str
    name: str | None
    prefix: str
    scopes: frozenset[Scope]
    created: int
    revoked: int | None


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key just made; `plaintext` is shown to its owner now and never again."""

    plaintext: str
    info: KeyInfo


class Keys:
    """Every tenant's keys. Safe to use from many threads."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def create(self, tenant: str, scopes: Collection[Scope | str], name: str | None = None) -> NewKey:
        """Make a key, and the tenant where it is new.

        Raises:
            InvalidRequest: the tenant's name is malformed, or a scope is unknown or missing.
        """
        plaintext = _draw()
        with writing(self._engine) as session:
            return NewKey(plaintext, _insert(session, plaintext, tenant, scopes, name))

    def authenticate(self, plaintext: str) -> Principal:
        """Return whose key this is.

        Raises:
            InvalidApiKey: malformed, unknown or revoked, told apart neither by text nor by the work done.
        """
        wanted = _hash(plaintext)
        prefix = plaintext[:_PREFIX_LENGTH] if _KEY.fullmatch(plaintext) else ""
        query = select(KeyRow.hash, KeyRow.id, KeyRow.tenant, KeyRow.scopes)
        with reading(self._engine) as session:
            rows = session.execute(query.where(KeyRow.prefix == prefix, KeyRow.revoked.is_(None))).all()
        found = [row for row in rows if hmac.compare_digest(row.hash, wanted)]
        if not rows:
            hmac.compare_digest(_NO_HASH, wanted)
        if not found:
            raise InvalidApiKey("The API key is not valid.")
        _, key_id, tenant, scopes = found[0]
        return Principal(tenant, _scopes(scopes), key_id)

    def list(self, tenant: str) -> tuple[KeyInfo, ...]:
        """Return the tenant's keys, revoked ones too, oldest first."""
        with reading(self._engine) as session:
            rows = session.scalars(select(KeyRow).where(KeyRow.tenant == tenant).order_by(KeyRow.created, KeyRow.id))
            return tuple(map(_info, rows))

    def revoke(self, tenant: str, key_id: str) -> bool:
        """Make the tenant's key invalid from now on; return false where it has no such valid key."""
        with writing(self._engine) as session:
            row = session.scalar(
                select(KeyRow).where(KeyRow.tenant == tenant, KeyRow.id == key_id, KeyRow.revoked.is_(None))
            )
            if row is not None:
                row.revoked = int(time.time())
            return row is not None

    def bootstrap(self, data_dir: Path) -> str | None:
        """Give a database without any key its admin key (tenant `default`, all scopes) and return it for printing.

        The file is written before the database commits. A crash between the two leaves a file without a key; the
        next start makes that very key valid, so whoever read the file already is not locked out. Once the database
        has a key the file is not needed any more: its owner may move it away, and None is returned.
        """
        with writing(self._engine) as session:
            if session.scalar(select(KeyRow.id).limit(1)) is not None:
                return None
            left = read_admin_key(data_dir)
            plaintext = left if left is not None and _KEY.fullmatch(left) else _draw()
            write_admin_key(data_dir, plaintext)
            _insert(session, plaintext, DEFAULT_TENANT, ALL_SCOPES, "admin")
        return plaintext


def _draw() -> str:
    return f"hm_{secrets.token_urlsafe(32)}"


def _hash(plaintext: str) -> bytes:
    return hashlib.sha256(plaintext.encode("utf-8", "surrogatepass")).digest()


def _insert(
    session: Session, plaintext: str, tenant: str, scopes: Collection[Scope | str], name: str | None
) -> KeyInfo:
    ensure_tenant(session, tenant)
    row = KeyRow(
        id=f"key_{secrets.token_hex(8)}",
        tenant=tenant,
        name=name,
        prefix=plaintext[:_PREFIX_LENGTH],
        hash=_hash(plaintext),
        scopes=_scopes_text(scopes),
        created=int(time.time()),
        revoked=None,
    )
    session.add(row)
    session.flush()
    return _info(row)


def _info(row: KeyRow) -> KeyInfo:
    return KeyInfo(
        key_id=row.id,
        tenant=row.tenant,
        name=row.name,
        prefix=row.prefix,
        scopes=_scopes(row.scopes),
        created=row.created,
        revoked=row.revoked,
    )


def _scopes(text: str) -> frozenset[Scope]:
    return frozenset(map(Scope, text.split()))


def _scopes_text(scopes: Collection[Scope | str]) -> str:
    known = {scope.value for scope in Scope}
    if not scopes or not known.issuperset(scopes):
        raise InvalidRequest(f"A key needs one or more of the scopes {', '.join(sorted(known))}.", param="scopes")
    return " ".join(sorted(set(scopes)))
