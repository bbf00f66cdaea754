"""Several adapters in one request, or one that is scaled: the field `adapters` of all inference routes."""

from typing import Annotated, ClassVar

from pydantic import Field

from headmix_server.api.schemas.body import ModelBody, RequestBody
from headmix_server.core.combination import MAX_ADAPTERS, MAX_SCALE


class ScaledAdapterBody(RequestBody):
    """One adapter of a request, named as in `model`."""

    drops_null: ClassVar[bool] = True

    name: str
    scale: float | None = Field(
        None, ge=-MAX_SCALE, le=MAX_SCALE, description="What the adapter's terms are multiplied by; defaults to 1."
    )


class AdaptedBody(ModelBody):
    """A body whose model may be a sum of adapters. `model` then names the base, or the first adapter once more."""

    adapters: Annotated[list[ScaledAdapterBody], Field(max_length=MAX_ADAPTERS, fail_fast=True)] | None = Field(
        None,
        description="Adapters whose terms are added up, each times its scale. Vocabulary and head are the first one's.",
    )
