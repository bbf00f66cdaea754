"""The rate limit for everything but inference: lists, uploads, changes, reports. Counted per tenant."""

from math import ceil

from headmix_server.api.state import ApiState
from headmix_server.core.errors import RateLimitExceeded
from headmix_server.tenancy.keys.principal import Principal

LIMIT = "management_per_minute"


async def count_management(state: ApiState, principal: Principal) -> None:
    """Take one request from the tenant's rate per minute.

    Raises:
        RateLimitExceeded: the tenant has made too many.
    """
    most = state.settings.limit_management_per_minute
    if not most:
        return
    verdict = await state.rates.take(principal.tenant, "management", 1, most)
    if verdict.charge is None:
        seconds = ceil(verdict.wait / 1000)
        message = f"Over the tenant's management requests per minute: limit {most}. Try again in {seconds} s."
        raise RateLimitExceeded(message, limit=LIMIT, retry_after=seconds)
