"""The query parameters of paginated lists."""

from typing import Annotated

from fastapi import Query

from headmix_server.api.schemas.common import LARGEST
from headmix_server.catalog.names import NAME_PATTERN

Limit = Annotated[
    int, Query(ge=1, le=1000, description="maximum entries per page; `has_more` is true if there are more")
]
AfterName = Annotated[
    str | None,
    Query(pattern=f"^({NAME_PATTERN}/)?{NAME_PATTERN}$", description="the last name of the previous page"),
]
AfterVersion = Annotated[int | None, Query(ge=1, le=LARGEST, description="the last version of the previous page")]
