"""Turns an upload into a file, or into a part of one that arrives in parts."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from starlette.requests import Request

from headmix_server.api.state import ApiState
from headmix_server.api.uploads.multipart import FormFields, receive_form
from headmix_server.api.uploads.receiving import MIB, declared_length, least_bytes, quota_of, receiving
from headmix_server.catalog.bytes.upload import Upload
from headmix_server.catalog.incoming import IncomingUpload
from headmix_server.catalog.quota import Quota, Room, Stored
from headmix_server.core.errors import InvalidRequest, PayloadTooLarge
from headmix_server.files.stored_file import Purpose, StoredFile, check_filename, read_purpose
from headmix_server.files.uploads import PART_BYTES, Part
from headmix_server.tenancy.keys.principal import Principal

ANCHOR, SECONDS = "expires_after[anchor]", "expires_after[seconds]"
CREATED_AT = "created_at"
SHORTEST, LONGEST = 3600, 2_592_000
"""A file that expires exists for an hour to 30 days."""

_FILE = FormFields(frozenset({"purpose", ANCHOR, SECONDS}))
_PART = FormFields(frozenset(), file="data", content="the part")
_UNNAMED = "file"


async def receive_file(request: Request, state: ApiState, principal: Principal) -> StoredFile:
    """Receive a file and store it.

    Raises:
        PayloadTooLarge, InvalidRequest, RateLimitExceeded, InsufficientStorage, StorageUnavailable: nothing was stored.
    """
    tenant, max_bytes = principal.tenant, state.settings.max_file_mib * MIB
    declared = declared_length(request, max_bytes, "file")
    arriving = receiving(state, tenant, state.files.bytes.receive, declared, max_bytes=max_bytes)
    async with state.threads.within(arriving) as (incoming, upload):
        form = await receive_form(request, _FILE, upload.write, state.threads)
        incoming.received()
        purpose = _purpose(form.fields)
        filename = check_filename(form.filename or _UNNAMED, param="file")
        lifetime = _lifetime(form.fields)

        def store() -> StoredFile:
            expires = None if lifetime is None else int(time.time()) + lifetime
            quota = quota_of(state, tenant)
            return state.files.add(
                tenant, purpose, filename, upload, expires=expires, quota=quota, actor=principal.actor
            )

        return await state.threads.store(tenant, store)


async def receive_part(request: Request, state: ApiState, principal: Principal, upload_id: str) -> Part:
    """Receive a part of an upload and store it.

    Raises:
        NotFound: the tenant has no such upload.
        PayloadTooLarge, InvalidRequest, InsufficientStorage, StorageUnavailable: nothing was stored.
    """
    tenant = principal.tenant
    declared = declared_length(request, PART_BYTES, "part", param="data")
    async with state.threads.within(_receiving_part(state, tenant, upload_id, declared)) as (incoming, upload):
        try:
            await receive_form(request, _PART, upload.write, state.threads)
        except PayloadTooLarge as error:
            raise PayloadTooLarge(error.message, param="data") from error
        incoming.received()
        return await state.threads.store(tenant, state.uploads.add_part, tenant, upload_id, upload)


@contextmanager
def _receiving_part(
    state: ApiState, tenant: str, upload_id: str, declared: int | None
) -> Iterator[tuple[IncomingUpload, Upload]]:
    max_bytes = state.uploads.check_part(tenant, upload_id, least=least_bytes(declared))
    # What the upload announced counts already: here its part takes a place among the uploads in progress.
    with (
        state.incoming.upload(tenant, Quota(), lambda: Room(Stored(0), 0)) as incoming,
        state.files.bytes.receive(max_bytes=max_bytes, reserve=lambda _: incoming.grow(0)) as upload,
    ):
        yield incoming, upload


def _purpose(fields: Mapping[str, str]) -> Purpose:
    if "purpose" not in fields:
        raise InvalidRequest("The field purpose is missing.", param="purpose")
    return read_purpose(fields["purpose"])


def _lifetime(fields: Mapping[str, str]) -> int | None:
    """Return for how many seconds the file exists, if not for good."""
    anchor, seconds = fields.get(ANCHOR), fields.get(SECONDS)
    if anchor is None and seconds is None:
        return None
    if anchor != CREATED_AT:
        raise InvalidRequest(f"{ANCHOR} takes {CREATED_AT}, and comes with {SECONDS}.", param=ANCHOR)
    if seconds is None or not seconds.isdecimal() or len(seconds) > 9 or not SHORTEST <= int(seconds) <= LONGEST:
        raise InvalidRequest(f"{SECONDS} takes {SHORTEST} to {LONGEST} seconds.", param=SECONDS)
    return int(seconds)
