"""A key as it may be shown, and a new key."""

from dataclasses import dataclass

from headmix_server.tenancy.keys.principal import Scope, read_scopes
from headmix_server.tenancy.tables import KeyRow


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyInfo:
    """Everything about a key except its text. Times are Unix seconds; `last_used` may lag by a minute."""

    key_id: str
    tenant: str
    name: str | None
    prefix: str
    scopes: frozenset[Scope]
    created: int
    revoked: int | None
    expires: int | None
    last_used: int | None


@dataclass(frozen=True, slots=True)
class NewKey:
    """A new key; `plaintext` is shown to its owner now and never again."""

    plaintext: str
    info: KeyInfo


def key_info(row: KeyRow, last_used: int | None) -> KeyInfo:
    """Return what may be shown of a row; `last_used` is a use more recent than the row's, or None."""
    used = [moment for moment in (row.last_used, last_used) if moment is not None]
    return KeyInfo(
        key_id=row.id,
        tenant=row.tenant,
        name=row.name,
        prefix=row.prefix,
        scopes=read_scopes(row.scopes),
        created=row.created,
        revoked=row.revoked,
        expires=row.expires,
        last_used=max(used, default=None),
    )
