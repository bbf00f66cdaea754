"""What a request's `model` names: the base alone, or one version of one of the tenant's adapters.

Resolved once, when the request arrives: a name that moves on afterwards does not move the request.
"""

from dataclasses import dataclass

from starlette.concurrency import run_in_threadpool

from headmix_server.api.record import RequestRecord
from headmix_server.api.state import ApiState
from headmix_server.catalog.version import AdapterVersion
from headmix_server.core.errors import TaskMismatch
from headmix_server.core.types import AdapterRef

ADAPTER_HEADER = "x-headmix-adapter"


@dataclass(frozen=True, slots=True)
class Model:
    """A resolved `model`; without a version it is the base alone."""

    version: AdapterVersion | None = None
    ref: AdapterRef | None = None

    @property
    def headers(self) -> dict[str, str]:
        """The response header that says which adapter answered; none for the base."""
        return {} if self.version is None else {ADAPTER_HEADER: f"{self.version.reference} {self.version.digest}"}


async def resolve_model(state: ApiState, tenant: str, name: str, record: RequestRecord) -> Model:
    """Return what the name stands for, and note it in the record; an adapter is held until the request has ended.

    Raises:
        ModelNotFound: neither the base nor an adapter of this tenant.
    """
    if name == state.base.name:
        return Model()
    version = await hold_version(state, tenant, name, record)
    return Model(version, state.library.ref(version))


async def hold_version(state: ApiState, tenant: str, reference: str, record: RequestRecord) -> AdapterVersion:
    """Return the version that `name` or `name@3` names, held until the request has ended.

    Raises:
        ModelNotFound: not an adapter of this tenant.
    """

    def resolve() -> AdapterVersion:
        version, hold = state.library.hold(tenant, reference)
        record.holds.add(hold)  # here, not where it is awaited: that one may be gone by now
        return version

    version = await run_in_threadpool(resolve)
    record.adapter, record.digest = version.name, version.digest
    return version


def require_generation(state: ApiState, model: Model) -> None:
    """Refuse what cannot continue a text.

    Raises:
        TaskMismatch: the base is an encoder, or the adapter a classifier.
    """
    if model.version is not None and model.version.task != "generation":
        raise TaskMismatch(f"{model.version.name!r} is a classifier: use /v1/classify.", param="model")
    if not state.generates:
        raise TaskMismatch("The base of this server is an encoder: it classifies and does not generate.", param="model")


def require_classification(model: Model) -> tuple[AdapterVersion, AdapterRef]:
    """Return the classifier, or refuse what has no classification head.

    Raises:
        TaskMismatch: the base alone, or an adapter for generation.
    """
    if model.version is None or model.ref is None:
        raise TaskMismatch("The base alone has no classification head: name a classifier adapter.", param="model")
    if model.version.task != "classification":
        raise TaskMismatch(f"{model.version.name!r} is not a classifier.", param="model")
    return model.version, model.ref
