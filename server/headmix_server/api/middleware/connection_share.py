"""Limits each tenant to half of the server's connections: slow uploads could otherwise hold all of them for hours."""

from functools import partial

from headmix_server.api.middleware.request_record import RequestRecord
from headmix_server.api.state import ApiState
from headmix_server.core.errors import RateLimitExceeded

RETRY_SECONDS = 1
"""A guess: there is no way to know when an open request will end."""


def enter(state: ApiState, record: RequestRecord, tenant: str) -> None:
    """Count a request to any route among its tenant's open requests until it ends.

    Raises:
        RateLimitExceeded: the tenant has too many open requests.
    """
    most = max(1, state.settings.max_connections // 2)
    if not state.open_on_any_route.enter(tenant, most):
        message = f"The tenant has {most} open requests, half of the server's connections."
        raise RateLimitExceeded(message, limit="connections", retry_after=RETRY_SECONDS)
    record.at_end(partial(_leave, state, tenant))


async def _leave(state: ApiState, tenant: str) -> None:
    state.open_on_any_route.leave(tenant)
