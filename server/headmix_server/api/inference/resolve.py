"""What a request's `model` and `adapters` name: the base alone, or versions of adapters that the tenant may use.

Resolved once, when the request arrives: moving a name to another version later does not affect the request.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from headmix_adapters.config import ClassifierConfig
from headmix_server.api.middleware.request_record import RequestRecord, record_of
from headmix_server.api.schemas.adapted import AdaptedBody, ScaledAdapterBody
from headmix_server.api.schemas.body import ModelBody
from headmix_server.api.state import ApiState
from headmix_server.catalog.queries import NO_DRAW
from headmix_server.catalog.rollout.canary import draw_of
from headmix_server.catalog.version import AdapterVersion
from headmix_server.core.errors import InternalError, InvalidRequest, ModelNotFound, TaskMismatch
from headmix_server.tenancy.keys.keys import DEFAULT_TENANT

ADAPTER_HEADER = "x-headmix-adapter"
ADAPTERS_HEADER = "x-headmix-adapters"
CANARY_KEY_HEADER = "x-headmix-canary-key"


@dataclass(frozen=True, slots=True)
class ScaledVersion:
    """One adapter of several, under the client's name for it; its terms are multiplied by `scale`."""

    name: str
    version: AdapterVersion
    scale: float

    def told(self) -> str:
        """Return it as a response's header and the log show it."""
        return f"{self.name}@{self.version.version} {self.version.digest} {self.scale!r}"


@dataclass(frozen=True, slots=True)
class Model:
    """A resolved model; without a version it is the base alone.

    `name` is the client's name for it, without a version. `base_generates`: the base can continue texts. `scale`
    multiplies the adapter's terms, and those of the adapters `beside` it are added. `param` is what named them.
    """

    name: str
    base_generates: bool
    version: AdapterVersion | None = None
    scale: float = 1.0
    beside: tuple[ScaledVersion, ...] = ()
    param: str = "model"


def adapter_header(tenant: str, version: AdapterVersion) -> dict[str, str]:
    """Return the response header that tells the tenant which version answered."""
    return {ADAPTER_HEADER: f"{version.called_by(tenant)}@{version.version} {version.digest}"}


async def resolve_body(request: Request, state: ApiState, body: ModelBody) -> Model:
    """Return the model that a body names by `model`, or by `adapters` beside it.

    Raises:
        ModelNotFound: as `resolve_model` and `resolve_adapters`.
        InvalidRequest: as `resolve_adapters`, or `model` names neither the base nor the first of the adapters.
    """
    given = body.adapters if isinstance(body, AdaptedBody) else None
    if not given:
        return await resolve_model(request, state, body.model, body.user)
    if body.model not in (state.base.name, given[0].name):
        raise InvalidRequest("Beside adapters, model is the base's name or the first adapter's.", param="model")
    return await resolve_adapters(request, state, given, body.user)


async def resolve_adapters(
    request: Request, state: ApiState, given: Sequence[ScaledAdapterBody], user: str | None
) -> Model:
    """Return the sum of adapters, one or more, each resolved and held as by `resolve_model`.

    An adapter that is named twice counts once, with the sum of its scales.

    Raises:
        ModelNotFound: one is not an adapter that the tenant may use.
        InvalidRequest: another than the first adds tokens to the vocabulary.
    """
    record = record_of(request)
    found: dict[str, ScaledVersion] = {}
    for one in given:
        version = await _hold(request, state, one.name, user, param="adapters")
        if not found:
            _record_first(record, one.name, version)
        scale = 1.0 if one.scale is None else one.scale
        before = found.get(version.digest)
        total = scale if before is None else before.scale + scale
        found[version.digest] = ScaledVersion(version.called_by(record.tenant), version, total)
    first, *beside = found.values()
    for other in beside:
        _require_no_tokens(other)
    record.adapters = [one.told() for one in found.values()]
    record.headers[ADAPTERS_HEADER] = ", ".join(record.adapters)
    return Model(first.name, state.generates, first.version, first.scale, tuple(beside), "adapters")


def _require_no_tokens(adapter: ScaledVersion) -> None:
    if adapter.version.config.added_tokens:
        raise InvalidRequest(
            f"{adapter.name!r} adds tokens to the vocabulary, which only the first of several adapters may do.",
            param="adapters",
        )


async def resolve_model(request: Request, state: ApiState, name: str, user: str | None = None) -> Model:
    """Return the model that the name refers to, and record it; an adapter is held until the request has ended.

    The response, errors included, carries a header that names the adapter.

    If a canary of the name is running, the client's key (or else `user`, or the request's id) decides which version
    answers.

    Raises:
        ModelNotFound: it is neither the base nor an adapter the tenant may use.
    """
    if name == state.base.name:
        return Model(name, state.generates)
    version = await _hold(request, state, name, user, param="model")
    record = record_of(request)
    _record_first(record, name, version)
    return Model(version.called_by(record.tenant), state.generates, version)


async def resolve_operators(request: Request, state: ApiState, reference: str) -> Model:
    """Return the adapter that the operator has named in a setting, for any tenant, and record it as `resolve_model`.

    Raises:
        ModelNotFound: its owner has no such adapter.
    """
    record = record_of(request)
    owner, slash, name = reference.rpartition("/")
    version = await hold_version(state, name, record, tenant=owner if slash else DEFAULT_TENANT)
    record.headers.update(adapter_header(record.tenant, version))
    return Model(version.called_by(record.tenant), state.generates, version)


async def _hold(request: Request, state: ApiState, name: str, user: str | None, *, param: str) -> AdapterVersion:
    """Return the version that a parameter names, perhaps its canary, held until the request has ended."""
    record = record_of(request)
    key = request.headers.get(CANARY_KEY_HEADER) or user or record.request_id
    try:
        return await _held(state, name, record, draw=draw_of(key, name))
    except ModelNotFound as error:
        raise ModelNotFound(error.message, param=param) from error


def _record_first(record: RequestRecord, name: str, version: AdapterVersion) -> None:
    """Record the adapter that a request counts for, also in the response's header."""
    record.concerns(version.called_by(record.tenant), version.digest)
    if version.canary is not None and "@" not in name:
        record.compared = version.version
    record.headers.update(adapter_header(record.tenant, version))


async def hold_version(
    state: ApiState, reference: str, record: RequestRecord, *, tenant: str | None = None
) -> AdapterVersion:
    """Return the version that a tenant, the record's by default, means by a name, held until the request has ended.

    Raises:
        ModelNotFound: it is not an adapter the tenant may use.
    """
    version = await _held(state, reference, record, tenant=tenant)
    record.concerns(version.called_by(record.tenant), version.digest)
    return version


async def _held(
    state: ApiState, reference: str, record: RequestRecord, *, draw: int = NO_DRAW, tenant: str | None = None
) -> AdapterVersion:
    """Return a version, held; `draw` is as in `Catalog.resolve`. Lines of a batch use the versions it has resolved.

    Raises:
        ModelNotFound: it is not an adapter the tenant may use, or the batch's version of it is gone.
    """
    resolved = record.line.models.version_of(reference) if record.line is not None and tenant is None else None

    def resolve() -> AdapterVersion:
        if resolved is not None:
            record.holds.add(state.library.holds.acquire(resolved.digest))
            return resolved
        version, hold = state.library.hold(tenant or record.tenant, reference, draw=draw)
        record.holds.add(hold)  # in the thread: the awaiting task may be cancelled by now
        return version

    return await run_in_threadpool(resolve)


def require_generation(model: Model) -> None:
    """Refuse a model that cannot continue a text.

    Raises:
        TaskMismatch: the base is an encoder, or the adapter is a classifier.
    """
    if model.version is not None and model.version.task != "generation":
        raise TaskMismatch(f"{model.name!r} is a classifier: use /v1/classify.", param=model.param)
    for one in model.beside:
        if one.version.task != "generation":
            raise TaskMismatch(f"{one.name!r} is a classifier: it cannot add to a generation.", param=model.param)
    if not model.base_generates:
        raise TaskMismatch("The base of this server is an encoder: it classifies and does not generate.", param="model")


def require_classification(model: Model) -> ClassifierConfig:
    """Return the model's classification head, or refuse a model without one.

    Raises:
        TaskMismatch: it is the base alone, or an adapter for generation.
    """
    if model.version is None:
        raise TaskMismatch("The base alone has no classification head: name a classifier adapter.", param="model")
    if model.version.task != "classification":
        raise TaskMismatch(f"{model.name!r} is not a classifier.", param=model.param)
    return _head(model.version)


def require_multi_label(model: Model) -> ClassifierConfig:
    """Return the model's multi-label head, or refuse a model without one.

    Raises:
        TaskMismatch: it has none.
    """
    head = require_classification(model)
    if head.problem != "multi_label":
        raise TaskMismatch(f"{model.name!r} has no multi-label head, which moderation needs.", param="model")
    return head


def pair_scorer(model: Model) -> ClassifierConfig | None:
    """Return the head that gives one score to a pair of texts; None if the model has no head, but can embed.

    Raises:
        TaskMismatch: its head gives no score but classes.
    """
    if model.version is None or model.version.task != "classification":
        return None
    head = _head(model.version)
    if len(head.labels) != 1:
        raise TaskMismatch(
            f"{model.name!r} has a head with {len(head.labels)} labels: scoring pairs needs a head with a single one, "
            "for regression or multi-label.",
            param="model",
        )
    return head


def _head(version: AdapterVersion) -> ClassifierConfig:
    head = version.config.classifier
    if head is None:
        raise InternalError(f"the classifier {version.digest} has no head")
    return head
