"""What a request's `model` names: the base alone, or one version of an adapter that the tenant may use.

Resolved once, when the request arrives: moving the name to another version later does not affect the request.
"""

from dataclasses import dataclass

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from headmix_adapters.config import ClassifierConfig
from headmix_server.api.middleware.request_record import RequestRecord, record_of
from headmix_server.api.state import ApiState
from headmix_server.catalog.queries import NO_DRAW
from headmix_server.catalog.rollout.canary import draw_of
from headmix_server.catalog.version import AdapterVersion
from headmix_server.core.errors import InternalError, TaskMismatch
from headmix_server.tenancy.keys.keys import DEFAULT_TENANT

ADAPTER_HEADER = "x-headmix-adapter"
CANARY_KEY_HEADER = "x-headmix-canary-key"


@dataclass(frozen=True, slots=True)
class Model:
    """A resolved `model`; without a version it is the base alone.

    `name` is the client's name for it, without a version. `base_generates`: the base can continue texts.
    """

    name: str
    base_generates: bool
    version: AdapterVersion | None = None


def adapter_header(tenant: str, version: AdapterVersion) -> dict[str, str]:
    """Return the response header that tells the tenant which version answered."""
    return {ADAPTER_HEADER: f"{version.called_by(tenant)}@{version.version} {version.digest}"}


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
    record = record_of(request)
    key = request.headers.get(CANARY_KEY_HEADER) or user or record.request_id
    version = await hold_version(state, name, record, draw=draw_of(key, name))
    if version.canary is not None and "@" not in name:
        record.compared = version.version
    record.headers.update(adapter_header(record.tenant, version))
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


async def hold_version(
    state: ApiState, reference: str, record: RequestRecord, *, draw: int = NO_DRAW, tenant: str | None = None
) -> AdapterVersion:
    """Return the version that a tenant, the record's by default, means by a name, held until the request has ended.

    `draw` is as in `Catalog.resolve`.

    Raises:
        ModelNotFound: it is not an adapter the tenant may use.
    """

    def resolve() -> AdapterVersion:
        version, hold = state.library.hold(tenant or record.tenant, reference, draw=draw)
        record.holds.add(hold)  # in the thread: the awaiting task may be cancelled by now
        return version

    version = await run_in_threadpool(resolve)
    record.concerns(version.called_by(record.tenant), version.digest)
    return version


def require_generation(model: Model) -> None:
    """Refuse a model that cannot continue a text.

    Raises:
        TaskMismatch: the base is an encoder, or the adapter is a classifier.
    """
    if model.version is not None and model.version.task != "generation":
        raise TaskMismatch(f"{model.name!r} is a classifier: use /v1/classify.", param="model")
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
        raise TaskMismatch(f"{model.name!r} is not a classifier.", param="model")
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
