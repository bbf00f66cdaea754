"""The query parameters of lists that come in pages."""

from typing import Annotated

from fastapi import Query

from headmix_server.api.schemas.common import LARGEST
from headmix_server.catalog.names import NAME_PATTERN

Limit = Annotated[int, Query(ge=1, le=1000, description="most entries of one answer; `has_more` tells of others")]
AfterName = Annotated[
    str | None,
    Query(pattern=f"^({NAME_PATTERN}/)?{NAME_PATTERN}$", description="the last name of the answer before"),
]
AfterVersion = Annotated[int | None, Query(ge=1, le=LARGEST, description="the last version of the answer before")]
