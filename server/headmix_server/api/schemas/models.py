"""Bodies of /v1/models: OpenAI's model object with additional fields for adapters."""

from typing import Literal

from headmix_server.api.schemas.body import ResponseBody
from headmix_server.core.types import Residency

Capability = Literal["generation", "classification", "embedding"]


class ModelObject(ResponseBody):
    """The base (`parent` null) or one of the tenant's adapters, at its current version.

    `capabilities` lists the kinds of requests it serves; adapters of an encoder base classify.
    """

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str
    root: str
    parent: str | None = None
    task: Literal["generation", "classification"] | None = None
    capabilities: list[Capability]
    labels: list[str] | None = None
    version: int | None = None
    digest: str | None = None
    resident: Residency | None = None
    max_model_len: int | None = None


class ModelDeleted(ResponseBody):
    """What was deleted, in OpenAI's form."""

    id: str
    object: Literal["model"] = "model"
    deleted: Literal[True] = True


class ModelList(ResponseBody):
    """The base first, then the tenant's adapters by name, then those shared with it.

    `has_more` is true if more follow: request them with `after`, the last entry's id.
    """

    object: Literal["list"] = "list"
    data: list[ModelObject]
    has_more: bool
