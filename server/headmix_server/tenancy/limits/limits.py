"""What one tenant may use of the server, and where the defaults come from. docs/api.md shows where each is enforced."""

from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Final

from headmix_server.core.settings.settings import Settings

UNLIMITED: Final = 0
DEFAULT_WEIGHT: Final = 1.0
LIGHTEST, HEAVIEST = 0.001, 1000.0
"""Bounds of a weight: outside of them, shares would be meaningless."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """A tenant's limits; 0 means no limit. When it competes with others, its work counts `1 / weight`."""

    requests_per_minute: int = UNLIMITED
    tokens_per_minute: int = UNLIMITED
    tokens_per_request: int = UNLIMITED
    concurrent_requests: int = UNLIMITED
    adapters: int = UNLIMITED
    stored_bytes: int = UNLIMITED
    training_jobs: int = UNLIMITED
    training_tokens_per_day: int = UNLIMITED
    weight: float = DEFAULT_WEIGHT


LIMIT_NAMES: Final = tuple(field.name for field in fields(Limits))

LIMIT_WORDS = MappingProxyType({name: name.replace("_", " ") for name in LIMIT_NAMES})
"""The limits' names in messages."""


def default_limits(settings: Settings) -> Limits:
    """Return the limits of a tenant for which none were set."""
    return Limits(
        requests_per_minute=settings.limit_requests_per_minute,
        tokens_per_minute=settings.limit_tokens_per_minute,
        tokens_per_request=settings.limit_tokens_per_request,
        concurrent_requests=settings.limit_concurrent_requests,
        adapters=settings.limit_adapters,
        stored_bytes=settings.limit_stored_bytes,
        training_jobs=settings.limit_training_jobs,
        training_tokens_per_day=settings.limit_training_tokens_per_day,
    )
