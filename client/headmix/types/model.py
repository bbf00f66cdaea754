"""Owns the type of a model: the base, or an adapter as a model to send requests to."""

from headmix.types.result import Part, Result


class Model(Result):
    """One entry of /v1/models. `parent` is the base's id for an adapter, None for the base itself.

    `resident` says where an adapter's tensors are now: `device`, `host` or `disk`. `capabilities` are the tasks it can
    do: `generation`, `classification`, `embedding`.
    """

    id: str
    created: int = 0
    owned_by: str | None = None
    parent: str | None = None
    root: str | None = None
    task: str | None = None
    capabilities: tuple[str, ...] = ()
    labels: tuple[str, ...] | None = None
    version: int | None = None
    digest: str | None = None
    resident: str | None = None


class DeletedModel(Result):
    """The deletion of a model."""

    id: str
    deleted: bool = True


class ModelList(Part):
    """The response body around models."""

    data: tuple[Model, ...]
    has_more: bool = False
