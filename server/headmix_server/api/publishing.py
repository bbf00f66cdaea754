"""From an upload to a version: received, verified against the base, stored and named, or refused with every fault."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fastapi.concurrency import contextmanager_in_threadpool
from starlette.requests import Request

from headmix_adapters.artifact import ArtifactError, Limits, verify_artifact
from headmix_server.api import conversion
from headmix_server.api.disconnect import until_disconnected
from headmix_server.api.multipart import receive_form
from headmix_server.api.state import ApiState
from headmix_server.catalog.names import check_name
from headmix_server.catalog.quota import Quota
from headmix_server.catalog.upload import Upload
from headmix_server.catalog.version import AdapterRecord, Published
from headmix_server.core.errors import InvalidAdapter, InvalidRequest, PayloadTooLarge
from headmix_server.tenancy.principal import Principal
from headmix_server.text.extended import AddedTokensError

MIB = 1024 * 1024
_FORM_BYTES = 128 * 1024  # room for the form around the file
_FIELDS = frozenset({"name", "allow_base_mismatch", "current"}) | conversion.FIELDS
_COPY_BYTES = MIB
_BOOLEANS = {"true": True, "false": False}


@dataclass(frozen=True, slots=True)
class _Order:
    """What the form asks for beside its file."""

    by: Principal
    name: str
    fields: Mapping[str, str]
    allow_mismatch: bool
    current: bool


async def receive_and_publish(request: Request, state: ApiState, principal: Principal) -> Published:
    """Take in the upload and make it the name's current version.

    Raises:
        PayloadTooLarge, InvalidRequest, InvalidAdapter, RateLimitExceeded, InsufficientStorage, StorageUnavailable:
            nothing was changed.
    """
    max_bytes = state.settings.max_adapter_mib * MIB
    await _check_declared_length(request, state, principal.tenant, max_bytes)
    with state.library.store.receive(max_bytes=max_bytes) as upload:
        fields = await receive_form(request, _FIELDS, upload.write)
        name = fields.get("name")
        if not name:
            raise InvalidRequest("The field name is missing.", param="name")
        check_name(name, reserved=(state.base.name,))
        allow = _boolean(fields, "allow_base_mismatch", default="false")
        current = _boolean(fields, "current", default="true")
        order = _Order(principal, name, fields, allow, current)
        if conversion.CONFIG_FIELD in fields:
            return await _convert_and_publish(request, state, order, upload)
        return await state.threads.manage(principal.tenant, _verify_and_publish, state, order, upload)


def _boolean(fields: Mapping[str, str], name: str, *, default: str) -> bool:
    value = _BOOLEANS.get(fields.get(name, default))
    if value is None:
        raise InvalidRequest(f"{name} is true or false.", param=name)
    return value


async def _check_declared_length(request: Request, state: ApiState, tenant: str, max_bytes: int) -> None:
    """Refuse what is too much whatever it is, ahead of its bytes; what is stored in the end is checked once more."""
    declared = request.headers.get("content-length", "")
    if not declared.isdecimal():
        return
    if int(declared) > max_bytes + _FORM_BYTES:
        raise PayloadTooLarge(f"The artifact is larger than the limit of {max_bytes} bytes.", param="file")
    await state.threads.manage(tenant, _check_room, state, tenant, int(declared))


def _check_room(state: ApiState, tenant: str, declared: int) -> None:
    quota = _quota(state, tenant)
    if quota.stored_bytes:
        least = max(0, declared - _FORM_BYTES)
        state.library.catalog.check_upload(tenant, quota, least=least, most=declared)


def _quota(state: ApiState, tenant: str) -> Quota:
    limits = state.limits.of(tenant)
    return Quota(adapters=limits.adapters, stored_bytes=limits.stored_bytes)


async def _convert_and_publish(request: Request, state: ApiState, order: _Order, upload: Upload) -> Published:
    """A PEFT LoRA: its config came with it, and what is stored is the artifact it equals.

    Raises:
        ClientGone: the client left before the conversion ended; its process has ended, too.
    """
    await state.threads.manage(order.by.tenant, upload.finish)
    async with contextmanager_in_threadpool(state.library.store.workspace()) as folder:
        out = folder / "converted.safetensors"
        convert = state.converter.convert
        work = convert(state.base, order.by.tenant, upload.path, order.fields, out, allow_mismatch=order.allow_mismatch)
        await until_disconnected(request, work)
        return await state.threads.manage(order.by.tenant, _publish_file, state, order, out)


def _publish_file(state: ApiState, order: _Order, path: Path) -> Published:
    with state.library.store.receive(max_bytes=state.settings.max_adapter_mib * MIB) as made, path.open("rb") as file:
        while data := file.read(_COPY_BYTES):
            made.write(data)
        return _publish(state, order, made)


def _verify_and_publish(state: ApiState, order: _Order, upload: Upload) -> Published:
    if foreign := sorted(conversion.FIELDS & order.fields.keys()):
        message = f"{foreign[0]} goes with a PEFT LoRA and its {conversion.CONFIG_FIELD}; an artifact tells it itself."
        raise InvalidRequest(message, param=foreign[0])
    return _publish(state, order, upload)


def _publish(state: ApiState, order: _Order, upload: Upload) -> Published:
    upload.finish()
    record = verify(state, upload, order.allow_mismatch)
    by, current = order.by, order.current
    quota = _quota(state, by.tenant)
    return state.library.publish(by.tenant, order.name, upload, record, current=current, actor=by.actor, quota=quota)


def verify(state: ApiState, upload: Upload, allow_mismatch: bool) -> AdapterRecord:
    """Return the record of a finished upload, if it is sound and fits the base.

    Raises:
        InvalidAdapter: with every fault.
    """
    settings = state.settings
    limits = Limits(
        max_rank=settings.max_adapter_rank, max_bytes=settings.max_adapter_mib * MIB, max_labels=settings.max_labels
    )
    try:
        artifact = verify_artifact(
            upload.path, base=state.base.shape, limits=limits, allow_base_mismatch=allow_mismatch
        )
    except ArtifactError as error:
        raise _refused([str(fault) for fault in error.faults]) from error
    try:
        state.vocabularies.tokenizer(upload.digest, artifact.config.added_tokens)
    except AddedTokensError as error:
        raise _refused(list(error.faults)) from error
    return AdapterRecord(
        digest=upload.digest,
        base=state.base.shape.fingerprint,
        size_bytes=artifact.size_bytes,
        num_parameters=artifact.num_parameters,
        config=artifact.config,
    )


def _refused(faults: list[str]) -> InvalidAdapter:
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return InvalidAdapter(f"The adapter was refused: {faults[0]}{more}.", faults=faults)
