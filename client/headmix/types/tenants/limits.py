"""Owns the types of a tenant's limits. 0 always means no limit."""

from typing import TypedDict

from headmix.types.result import Part, Result


class LimitChanges(TypedDict, total=False):
    """Limits to set: None restores the server's default; those left out stay unchanged."""

    requests_per_minute: int | None
    tokens_per_minute: int | None
    tokens_per_request: int | None
    concurrent_requests: int | None
    adapters: int | None
    stored_bytes: int | None
    training_jobs: int | None
    training_tokens_per_day: int | None
    weight: float | None


class OwnLimits(Part):
    """The limits set for the tenant itself; None means the server's default."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    tokens_per_request: int | None = None
    concurrent_requests: int | None = None
    adapters: int | None = None
    stored_bytes: int | None = None
    training_jobs: int | None = None
    training_tokens_per_day: int | None = None
    weight: float | None = None


class EffectiveLimits(Part):
    """The limits in effect for the tenant."""

    requests_per_minute: int = 0
    tokens_per_minute: int = 0
    tokens_per_request: int = 0
    concurrent_requests: int = 0
    adapters: int = 0
    stored_bytes: int = 0
    training_jobs: int = 0
    training_tokens_per_day: int = 0
    weight: float = 1.0


class Limits(Result):
    """A tenant's limits: those set for it, and those in effect with the server's defaults."""

    tenant: str
    own: OwnLimits
    effective: EffectiveLimits
