"""Turns an upload into a version: received, verified against the base, stored and named, or refused with all errors."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from starlette.requests import Request

from headmix_adapters.artifact import ArtifactError, verify_artifact
from headmix_adapters.artifact.faults import quoted
from headmix_adapters.text.chat_template import template_fault
from headmix_server.api.middleware.disconnect import until_disconnected
from headmix_server.api.state import ApiState
from headmix_server.api.uploads.adapter_room import require_room
from headmix_server.api.uploads.multipart import FormFields, receive_form
from headmix_server.api.uploads.receiving import MIB, declared_length, quota_of, receiving
from headmix_server.catalog.bytes.upload import Upload
from headmix_server.catalog.incoming import IncomingUpload
from headmix_server.catalog.names import check_name
from headmix_server.catalog.version import AdapterRecord, Published
from headmix_server.core.artifact_limits import artifact_limits
from headmix_server.core.errors import InvalidAdapter, InvalidRequest, PayloadTooLarge
from headmix_server.services import conversion
from headmix_server.tenancy.keys.principal import Principal
from headmix_server.text.adapter_template import COMPILE_SECONDS, AdapterTemplate
from headmix_server.text.vocabulary.extended import AddedTokensError
from headmix_server.text.workers.apart import TooMuchWorkError
from headmix_server.text.workers.jobs import CompileTemplate

_FORM = FormFields(frozenset({"name", "allow_base_mismatch", "current"}) | conversion.FIELDS, content="the adapter")
_COPY_BYTES = MIB
_BOOLEANS = {"true": True, "false": False}


@dataclass(frozen=True, slots=True)
class _Order:
    """What the form requests besides its file."""

    by: Principal
    name: str
    fields: Mapping[str, str]
    allow_mismatch: bool
    current: bool


async def receive_and_publish(request: Request, state: ApiState, principal: Principal) -> Published:
    """Receive the upload and make it a version of the name, the current one unless the form says otherwise.

    Raises:
        PayloadTooLarge, InvalidRequest, InvalidAdapter, RateLimitExceeded, InsufficientStorage, StorageUnavailable:
            nothing was changed.
    """
    max_bytes = state.settings.max_adapter_mib * MIB
    declared = declared_length(request, max_bytes, "artifact")
    receive = state.library.store.receive
    arriving = receiving(state, principal.tenant, receive, declared, max_bytes=max_bytes)
    async with state.threads.within(arriving) as (incoming, upload):
        fields = (await receive_form(request, _FORM, upload.write, state.threads)).fields
        incoming.received()
        name = fields.get("name")
        if not name:
            raise InvalidRequest("The field name is missing.", param="name")
        check_name(name, reserved=(state.base.name,))
        allow = _boolean(fields, "allow_base_mismatch", default="false")
        current = _boolean(fields, "current", default="true")
        order = _Order(principal, name, fields, allow, current)
        if conversion.CONFIG_FIELD in fields:
            return await _convert_and_publish(request, state, order, incoming, upload)
        _refuse_foreign_fields(order)
        return await _finish_and_publish(state, order, upload)


def _boolean(fields: Mapping[str, str], name: str, *, default: str) -> bool:
    value = _BOOLEANS.get(fields.get(name, default))
    if value is None:
        raise InvalidRequest(f"{name} must be true or false.", param=name)
    return value


async def _convert_and_publish(
    request: Request, state: ApiState, order: _Order, incoming: IncomingUpload, upload: Upload
) -> Published:
    """Convert a PEFT LoRA, whose config came with it, and store the artifact that is equivalent to it.

    Raises:
        ClientGone: the client disconnected during the conversion, whose process has ended.
    """
    await state.threads.store(order.by.tenant, upload.finish)
    async with state.threads.within(state.library.store.workspace()) as folder:
        out = folder / "converted.safetensors"
        convert = state.converter.convert
        work = convert(state.base, order.by.tenant, upload.path, order.fields, out, allow_mismatch=order.allow_mismatch)
        await until_disconnected(request, work)
        await state.threads.receive(upload.discard)
        incoming.shrink()  # from here on, the converted artifact counts instead of the upload
        return await state.threads.store(order.by.tenant, _publish_file, state, order, incoming, out)


def _publish_file(state: ApiState, order: _Order, incoming: IncomingUpload, path: Path) -> Published:
    receive, max_bytes = state.library.store.receive, state.settings.max_adapter_mib * MIB
    with receive(max_bytes=max_bytes, reserve=incoming.grow) as made, path.open("rb") as file:
        while data := file.read(_COPY_BYTES):
            made.write(data)
        made.finish()
        return _publish(state, order, made, verify(state, made, order.allow_mismatch))


def _refuse_foreign_fields(order: _Order) -> None:
    if foreign := sorted(conversion.FIELDS & order.fields.keys()):
        message = f"{foreign[0]} goes with a PEFT LoRA and its {conversion.CONFIG_FIELD}; an artifact has its own."
        raise InvalidRequest(message, param=foreign[0])


async def _finish_and_publish(state: ApiState, order: _Order, upload: Upload) -> Published:
    """Verify an artifact, its chat template in a text worker, and publish it."""
    tenant = order.by.tenant
    record = await state.threads.store(tenant, _finish_and_verify, state, order, upload)
    if record.config.chat_template:
        await _compile_template(state, tenant, AdapterTemplate(record.config.chat_template))
    return await state.threads.store(tenant, _publish, state, order, upload, record)


async def _compile_template(state: ApiState, tenant: str, template: AdapterTemplate) -> None:
    try:
        fault = await state.text_workers.run(tenant, CompileTemplate(template), len(template.source))
    except TooMuchWorkError:
        fault = f"compiling it takes more than {COMPILE_SECONDS:g} seconds of processor time"
    except PayloadTooLarge:
        fault = "compiling it takes too much memory"
    if fault is not None:
        raise _refused([f"chat_template: {quoted(fault)}"])


def _finish_and_verify(state: ApiState, order: _Order, upload: Upload) -> AdapterRecord:
    upload.finish()
    return verify(state, upload, order.allow_mismatch, template_fault=lambda _: None)


def _publish(state: ApiState, order: _Order, upload: Upload, record: AdapterRecord) -> Published:
    by, current = order.by, order.current
    quota = quota_of(state, by.tenant)
    return state.library.publish(by.tenant, order.name, upload, record, current=current, actor=by.actor, quota=quota)


def verify(
    state: ApiState,
    upload: Upload,
    allow_mismatch: bool,
    *,
    template_fault: Callable[[str], str | None] = template_fault,
) -> AdapterRecord:
    """Return the record of a finished upload that is valid and fits the base.

    `template_fault` is as in `verify_artifact`.

    Raises:
        InvalidAdapter: it is not; the error lists all reasons.
        AdapterTooLarge: this server could never load it.
    """
    limits = artifact_limits(state.settings)
    try:
        artifact = verify_artifact(
            upload.path,
            base=state.base.shape,
            limits=limits,
            allow_base_mismatch=allow_mismatch,
            template_fault=template_fault,
        )
    except ArtifactError as error:
        raise _refused([str(fault) for fault in error.faults]) from error
    require_room(artifact, state.engine.ready)
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
