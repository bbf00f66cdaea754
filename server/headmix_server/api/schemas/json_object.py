"""Any JSON object, bounded in depth, whose texts are Unicode."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator

from headmix_server.api.schemas.common import require_unicode

MAX_DEPTH = 16


def _require_plain(value: object, depth: int = 0) -> object:
    if isinstance(value, str):
        return require_unicode(value)
    if isinstance(value, list | Mapping):
        if depth == MAX_DEPTH:
            raise ValueError(f"it is nested more than {MAX_DEPTH} levels deep")
        for entry in [*value, *value.values()] if isinstance(value, Mapping) else value:
            _require_plain(entry, depth + 1)
    return value


JsonObject = Annotated[dict[str, Any], AfterValidator(_require_plain)]
