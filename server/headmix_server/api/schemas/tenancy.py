"""Bodies of /v1/tenants and /v1/audit. Times are in Unix seconds."""

from typing import Annotated, Any, Literal

from pydantic import Field

from headmix_server.api.schemas.body import RequestBody, ResponseBody
from headmix_server.api.schemas.common import LARGEST, Name, Text
from headmix_server.api.schemas.numbers import Whole
from headmix_server.database import AuditEntry
from headmix_server.tenancy.keys.key_info import KeyInfo, NewKey
from headmix_server.tenancy.keys.principal import Scope
from headmix_server.tenancy.tenants import TenantInfo

LONGEST_GRACE_SECONDS = 90 * 24 * 3600


class TenantRequest(RequestBody):
    """A tenant to create."""

    name: Text


class TenantObject(ResponseBody):
    """A tenant; `keys` counts its keys that are not revoked."""

    object: Literal["tenant"] = "tenant"
    name: str
    created: int
    keys: int


class TenantList(ResponseBody):
    """Tenants by name."""

    object: Literal["list"] = "list"
    data: list[TenantObject]


class KeyRequest(RequestBody):
    """A key to create; without `expires` it is valid until it is revoked."""

    scopes: Annotated[list[Text], Field(fail_fast=True)]
    name: Name | None = Field(None, max_length=200)
    expires: Annotated[int, Field(ge=0, le=LARGEST), Whole] | None = None


class RotateRequest(RequestBody):
    """How long the old key remains valid alongside its successor, in seconds."""

    grace_seconds: Annotated[int, Field(ge=0, le=LONGEST_GRACE_SECONDS), Whole] = 0


class KeyObject(ResponseBody):
    """A key without its text."""

    object: Literal["key"] = "key"
    id: str
    tenant: str
    name: str | None
    prefix: str
    scopes: list[Scope]
    created: int
    expires: int | None
    revoked: int | None
    last_used: int | None


class NewKeyObject(KeyObject):
    """A new key with its text, which is shown only this once."""

    key: str


class KeyList(ResponseBody):
    """A tenant's keys, oldest first."""

    object: Literal["list"] = "list"
    data: list[KeyObject]


class AuditObject(ResponseBody):
    """One change: `actor` is the id of the key that made it, or `server`."""

    object: Literal["audit.entry"] = "audit.entry"
    number: int
    at: int
    actor: str
    tenant: str
    action: str
    subject: str
    detail: dict[str, Any]


class AuditList(ResponseBody):
    """Changes, newest first."""

    object: Literal["list"] = "list"
    data: list[AuditObject]


def tenant_object(tenant: TenantInfo) -> TenantObject:
    """Return the tenant as administrators see it."""
    return TenantObject(name=tenant.name, created=tenant.created, keys=tenant.keys)


def key_object(info: KeyInfo) -> KeyObject:
    """Return the key as administrators see it."""
    return KeyObject(
        id=info.key_id,
        tenant=info.tenant,
        name=info.name,
        prefix=info.prefix,
        scopes=sorted(info.scopes),
        created=info.created,
        expires=info.expires,
        revoked=info.revoked,
        last_used=info.last_used,
    )


def new_key_object(new: NewKey) -> NewKeyObject:
    """Return a new key as its owner sees it once."""
    return NewKeyObject(key=new.plaintext, **key_object(new.info).model_dump())


def audit_object(entry: AuditEntry) -> AuditObject:
    """Return the change as administrators see it."""
    return AuditObject(
        number=entry.number,
        at=entry.at,
        actor=entry.actor,
        tenant=entry.tenant,
        action=entry.action,
        subject=entry.subject,
        detail=entry.detail,
    )
