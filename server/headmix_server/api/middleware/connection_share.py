"""No tenant holds more than half of the server's connections: an upload at the least pace could keep each for hours."""

from functools import partial

from headmix_server.api.middleware.request_record import RequestRecord
from headmix_server.api.state import ApiState
from headmix_server.core.errors import RateLimitExceeded

RETRY_SECONDS = 1
"""Told where there are too many: when one of them ends, nobody knows."""


def enter(state: ApiState, record: RequestRecord, tenant: str) -> None:
    """Count a request of whatever route among those its tenant has open, until it ends.

    Raises:
        RateLimitExceeded: it has too many.
    """
    most = max(1, state.settings.max_connections // 2)
    if not state.open_on_any_route.enter(tenant, most):
        message = f"The tenant has {most} open requests, half of the server's connections."
        raise RateLimitExceeded(message, limit="connections", retry_after=RETRY_SECONDS)
    record.at_end(partial(_leave, state, tenant))


async def _leave(state: ApiState, tenant: str) -> None:
    state.open_on_any_route.leave(tenant)
