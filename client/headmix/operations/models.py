"""Owns the requests that list the models this key may use: the base and the tenant's adapters."""

from headmix.errors import InvalidResponseError
from headmix.http.request import Request, parser_of, segment
from headmix.page import Page
from headmix.types.model import DeletedModel, Model, ModelList
from headmix.types.result import ResponseMeta


def list_models() -> Request[Page[Model]]:
    """List all models this key may use."""
    return Request("GET", "/v1/models", _models)


def base_model() -> Request[Model]:
    """Get the base: the model used without an adapter."""
    return Request("GET", "/v1/models", _base)


def get_model(model: str) -> Request[Model]:
    """Get a model by its id.

    Raises:
        NotFoundError: no such model.
    """
    return Request("GET", f"/v1/models/{segment(model)}", parser_of(Model))


def delete_model(model: str) -> Request[DeletedModel]:
    """Delete an adapter, or one version of it (`name@3`), even the current one.

    Raises:
        NotFoundError: no such model.
        BadRequestError: it is the base, or a canary.
    """
    return Request("DELETE", f"/v1/models/{segment(model)}", parser_of(DeletedModel), repeatable=False)


def _models(body: bytes, meta: ResponseMeta) -> Page[Model]:
    found = parser_of(ModelList)(body, meta)
    return Page(found.data, found.data[-1].id if found.has_more and found.data else None)


def _base(body: bytes, meta: ResponseMeta) -> Model:
    found = next((model for model in _models(body, meta).items if model.parent is None), None)
    if found is None:
        raise InvalidResponseError("the server lists no base among its models")
    return found
