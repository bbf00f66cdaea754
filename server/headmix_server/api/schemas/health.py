"""Bodies of the health routes."""

from headmix_server.api.schemas.body import ResponseBody


class Health(ResponseBody):
    """`ok`, `ready`, or the engine's state with the reason why it cannot serve."""

    status: str
    reason: str | None = None
