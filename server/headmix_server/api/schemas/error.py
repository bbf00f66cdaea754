"""The one shape of an error, for OpenAPI; bodies are made in `api.errors`."""

from headmix_server.api.schemas.common import ResponseBody


class ErrorDetail(ResponseBody):
    """What went wrong; `faults` only where an artifact was refused."""

    message: str
    type: str
    param: str | None
    code: str
    faults: list[str] | None = None


class ErrorResponse(ResponseBody):
    """Every response that is not a success."""

    error: ErrorDetail
