"""Bodies of /v1/adapters/{name}/canary."""

from typing import Annotated

from pydantic import Field

from headmix_server.api.schemas.body import RequestBody, ResponseBody
from headmix_server.api.schemas.numbers import Whole


class CanaryRequest(RequestBody):
    """The version to try, and the percentage of the name's requests that it receives."""

    version: Annotated[int, Field(ge=1), Whole]
    percent: Annotated[int, Field(ge=0, le=100), Whole]


class CanaryObject(ResponseBody):
    """The canary of an adapter."""

    version: int
    percent: int
