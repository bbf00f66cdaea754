"""Bodies of /v1/tenants/{tenant}/limits."""

from typing import Annotated, Literal

from pydantic import Field

from headmix_server.api.schemas.body import RequestBody, ResponseBody
from headmix_server.api.schemas.common import LARGEST
from headmix_server.api.schemas.numbers import Whole
from headmix_server.tenancy.limits.limits import HEAVIEST, LIGHTEST
from headmix_server.tenancy.limits.tenant_limits import TenantLimits, as_numbers

Most = Annotated[int, Field(ge=0, le=LARGEST), Whole]


class LimitChanges(RequestBody):
    """Limits to set: 0 means no limit, null the server's default; omitted limits are unchanged."""

    requests_per_minute: Most | None = None
    tokens_per_minute: Most | None = None
    tokens_per_request: Most | None = None
    concurrent_requests: Most | None = None
    adapters: Most | None = None
    stored_bytes: Most | None = None
    training_jobs: Most | None = None
    training_tokens_per_day: Most | None = None
    weight: Annotated[float, Field(ge=LIGHTEST, le=HEAVIEST)] | None = None


class OwnLimits(ResponseBody):
    """The limits set for the tenant; null means the server's default."""

    requests_per_minute: int | None
    tokens_per_minute: int | None
    tokens_per_request: int | None
    concurrent_requests: int | None
    adapters: int | None
    stored_bytes: int | None
    training_jobs: int | None
    training_tokens_per_day: int | None
    weight: float | None


class EffectiveLimits(ResponseBody):
    """The tenant's effective limits; 0 means no limit."""

    requests_per_minute: int
    tokens_per_minute: int
    tokens_per_request: int
    concurrent_requests: int
    adapters: int
    stored_bytes: int
    training_jobs: int
    training_tokens_per_day: int
    weight: float


class LimitsObject(ResponseBody):
    """A tenant's limits."""

    object: Literal["tenant.limits"] = "tenant.limits"
    tenant: str
    own: OwnLimits
    effective: EffectiveLimits


def limits_object(limits: TenantLimits, tenant: str) -> LimitsObject:
    """Return the tenant's limits as administrators see them."""
    return LimitsObject(
        tenant=tenant,
        own=OwnLimits.model_validate(limits.own(tenant)),
        effective=EffectiveLimits.model_validate(as_numbers(limits.of(tenant))),
    )
