"""Owns the types of a tenant, a key, and an audit log entry. Times are Unix seconds."""

from pydantic import Field, JsonValue

from headmix.types.result import Part, Result


class Tenant(Result):
    """An owner of keys and adapters; `keys` counts those not revoked."""

    name: str
    created: int
    keys: int = 0


class Key(Result):
    """A key without its text. It is invalid from `expires` or `revoked` on; `last_used` may lag a little."""

    id: str
    tenant: str
    name: str | None = None
    prefix: str
    scopes: tuple[str, ...]
    created: int
    expires: int | None = None
    revoked: int | None = None
    last_used: int | None = None


class NewKey(Key):
    """A newly created key; `key` is its text, which the server shows only this once."""

    key: str = Field(repr=False)


class AuditEntry(Part):
    """One change: `actor` is the id of the key that made it, or `server`."""

    number: int
    at: int
    actor: str
    tenant: str
    action: str
    subject: str
    detail: dict[str, JsonValue] = Field(default_factory=dict)


class TenantList(Part):
    """The response body around tenants."""

    data: tuple[Tenant, ...]


class KeyList(Part):
    """The response body around keys."""

    data: tuple[Key, ...]


class AuditList(Part):
    """The response body around changes."""

    data: tuple[AuditEntry, ...]
