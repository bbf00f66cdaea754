"""Keys: created, checked, listed, rotated, revoked; and the first one, which a new server creates for itself.

A key's text exists only where it was handed out (`key_text`). Checking a key's rights on a route is up to the API, with
the `Principal`.
"""

import secrets
import time
from collections.abc import Callable, Collection
from pathlib import Path

from sqlalchemy import ColumnElement, Engine, Select, or_, select
from sqlalchemy.orm import Session

from headmix_server.core.errors import InvalidApiKey, InvalidRequest
from headmix_server.database import PROMPT, SERVER, audit, ensure_tenant, reading, writing
from headmix_server.tenancy.keys.admin_key import read_admin_key, write_admin_key
from headmix_server.tenancy.keys.key_info import KeyInfo, NewKey, key_info
from headmix_server.tenancy.keys.key_text import draw_key, hash_key, is_key, key_prefix, matching
from headmix_server.tenancy.keys.last_used import LastUsed
from headmix_server.tenancy.keys.principal import ALL_SCOPES, Principal, Scope, read_scopes, write_scopes
from headmix_server.tenancy.tables import KeyRow

DEFAULT_TENANT = "default"


class Keys:
    """Every tenant's keys. Thread-safe; `actor` is who the audit records, `clock` returns Unix seconds."""

    def __init__(self, engine: Engine, *, clock: Callable[[], float] = time.time) -> None:
        self._engine = engine
        self._clock = clock
        self._last_used = LastUsed()

    def create(
        self,
        tenant: str,
        scopes: Collection[Scope | str],
        name: str | None = None,
        *,
        expires: int | None = None,
        actor: str = SERVER,
    ) -> NewKey:
        """Create a key, and the tenant if it is new; `expires` is in Unix seconds.

        Raises:
            InvalidRequest: the tenant's name is malformed, a scope is unknown or missing, or `expires` is in the past.
        """
        if expires is not None and expires <= self._clock():
            raise InvalidRequest("The key would be expired already.", param="expires")
        with writing(self._engine, tenant) as session:
            return self._add(session, draw_key(), tenant, write_scopes(scopes), name, expires, actor)

    def _add(
        self,
        session: Session,
        plaintext: str,
        tenant: str,
        scopes: str,
        name: str | None,
        expires: int | None,
        actor: str,
    ) -> NewKey:
        ensure_tenant(session, tenant)
        row = KeyRow(
            id=f"key_{secrets.token_hex(8)}",
            tenant=tenant,
            name=name,
            prefix=key_prefix(plaintext),
            hash=hash_key(plaintext),
            scopes=scopes,
            created=int(self._clock()),
            revoked=None,
            expires=expires,
            last_used=None,
        )
        session.add(row)
        session.flush()
        audit(session, actor, tenant, "key.create", row.id, scopes=scopes.split(), expires=expires)
        return NewKey(plaintext, key_info(row, None))

    def authenticate(self, plaintext: str) -> Principal:
        """Return the key's principal, and record its use.

        Raises:
            InvalidApiKey: malformed, unknown, revoked or expired; neither the message nor the work done reveals which.
        """
        prefix = key_prefix(plaintext) if is_key(plaintext) else ""
        with reading(self._engine, patience=PROMPT) as session:
            rows = session.scalars(self._valid(KeyRow.prefix == prefix)).all()
        place = matching(plaintext, [row.hash for row in rows])
        if place is None:
            raise InvalidApiKey("The API key is not valid.")
        found = rows[place]
        self._last_used.mark_used(found.id, int(self._clock()))
        return Principal(found.tenant, read_scopes(found.scopes), found.id)

    def list(self, tenant: str) -> tuple[KeyInfo, ...]:
        """Return the tenant's keys, including revoked and expired ones, oldest first."""
        with reading(self._engine) as session:
            rows = session.scalars(select(KeyRow).where(KeyRow.tenant == tenant).order_by(KeyRow.created, KeyRow.id))
            return tuple(key_info(row, self._last_used.of(row.id)) for row in rows)

    def revoke(self, tenant: str, key_id: str, *, actor: str = SERVER) -> bool:
        """Revoke the tenant's key from now on; return false if it has no such valid key.

        Raises:
            InvalidRequest: it is the last of the administrators' keys to expire. Without it, nobody could create keys
                once the others have expired.
        """
        with writing(self._engine, tenant) as session:
            row = session.scalar(self._valid(KeyRow.tenant == tenant, KeyRow.id == key_id))
            if row is None:
                return False
            if Scope.ADMIN in read_scopes(row.scopes) and not self._outlasted(session, row):
                raise InvalidRequest(
                    "No other valid key with the scope 'admin' lasts as long as this one; create one first."
                )
            row.revoked = int(self._clock())
            audit(session, actor, tenant, "key.revoke", key_id)
            return True

    def _outlasted(self, session: Session, row: KeyRow) -> bool:
        """Return whether another administrator's key is valid at least as long as this one."""
        for_ever = KeyRow.expires.is_(None)
        lasts = for_ever if row.expires is None else or_(for_ever, KeyRow.expires >= row.expires)
        others = session.scalars(self._valid(KeyRow.id != row.id, lasts, KeyRow.scopes.contains(Scope.ADMIN.value)))
        return any(Scope.ADMIN in read_scopes(other.scopes) for other in others)

    def rotate(self, tenant: str, key_id: str, *, grace_seconds: int = 0, actor: str = SERVER) -> NewKey | None:
        """Create a key with the scopes, name and expiry of this one, which ends after `grace_seconds`.

        Returns None if the tenant has no such valid key.
        """
        now = int(self._clock())
        with writing(self._engine, tenant) as session:
            row = session.scalar(self._valid(KeyRow.tenant == tenant, KeyRow.id == key_id))
            if row is None:
                return None
            new = self._add(session, draw_key(), tenant, row.scopes, row.name, row.expires, actor)
            if grace_seconds:
                end = now + grace_seconds
                row.expires = end if row.expires is None else min(row.expires, end)
            else:
                row.revoked = now
            audit(session, actor, tenant, "key.rotate", key_id, to=new.info.key_id, grace_seconds=grace_seconds)
            return new

    def _valid(self, *where: ColumnElement[bool]) -> Select[KeyRow]:
        unexpired = or_(KeyRow.expires.is_(None), KeyRow.expires > int(self._clock()))
        return select(KeyRow).where(KeyRow.revoked.is_(None), unexpired, *where)

    def flush_last_used(self) -> None:
        """Write the keys' last uses to the database; see `LastUsed.flush`."""
        self._last_used.flush(self._engine)

    def bootstrap(self, data_dir: Path) -> str | None:
        """Create the admin key (tenant `default`, all scopes) of a database without keys, and return it for printing.

        The file is written before the database commits. A crash in between leaves a file without a key; the next start
        makes that same key valid, so that a user who has already read the file is not locked out. Once the database has
        a key, the file is no longer needed: its owner may move it away, and None is returned.
        """
        with writing(self._engine) as session:
            if session.scalar(select(KeyRow.id).limit(1)) is not None:
                return None
            left = read_admin_key(data_dir)
            plaintext = left if left is not None and is_key(left) else draw_key()
            write_admin_key(data_dir, plaintext)
            self._add(session, plaintext, DEFAULT_TENANT, write_scopes(ALL_SCOPES), "admin", None, SERVER)
        return plaintext
