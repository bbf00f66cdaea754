"""Bodies of /v1/adapters/{name}/canary."""

from pydantic import Field

from headmix_server.api.schemas.common import RequestBody, ResponseBody


class CanaryRequest(RequestBody):
    """The version to try out, and how many of a hundred of the name's requests it gets."""

    version: int = Field(ge=1)
    percent: int = Field(ge=0, le=100)


class CanaryObject(ResponseBody):
    """The canary of an adapter."""

    version: int
    percent: int
