"""Bytes of an upload as they arrive: counted against the tenant's quota, and refused before that if they cannot fit."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Protocol

from starlette.requests import Request

from headmix_server.api.state import ApiState
from headmix_server.catalog.bytes.upload import Reserve, Upload
from headmix_server.catalog.incoming import IncomingUpload
from headmix_server.catalog.quota import Quota
from headmix_server.core.errors import PayloadTooLarge

MIB = 1024 * 1024
FORM_BYTES = 128 * 1024
"""For the form's parts around the file."""


class Receive(Protocol):
    """The `receive` of a store."""

    def __call__(self, *, max_bytes: int, reserve: Reserve) -> AbstractContextManager[Upload]:
        """Yield an upload to write into."""


def declared_length(request: Request, max_bytes: int, kind: str, *, param: str = "file") -> int | None:
    """Return the body's declared length, if any; refuse a body that is certainly too large before it is read.

    Raises:
        PayloadTooLarge: it is; `kind` is what it holds.
    """
    declared = request.headers.get("content-length", "")
    if not declared.isdecimal():
        return None
    if int(declared) > max_bytes + FORM_BYTES:
        raise PayloadTooLarge(f"The {kind} is larger than the limit of {max_bytes} bytes.", param=param)
    return int(declared)


def least_bytes(declared: int | None) -> int:
    """Return how many bytes the file of a body with this declared length has at least."""
    return 0 if declared is None else max(0, declared - FORM_BYTES)


@contextmanager
def receiving(
    state: ApiState, tenant: str, receive: Receive, declared: int | None, *, max_bytes: int
) -> Iterator[tuple[IncomingUpload, Upload]]:
    """Yield an upload whose bytes count against the tenant's quota as they arrive.

    An upload that certainly exceeds the quota is refused before its bytes arrive.
    """
    quota, catalog, least = quota_of(state, tenant), state.library.catalog, least_bytes(declared)
    if quota.stored_bytes and declared is not None:
        catalog.check_upload(tenant, quota, least=least, most=declared)
    read_room = partial(catalog.read_room, tenant, least=least, most=declared)
    with (
        state.incoming.upload(tenant, quota, read_room) as incoming,
        receive(max_bytes=max_bytes, reserve=incoming.grow) as upload,
    ):
        yield incoming, upload


def quota_of(state: ApiState, tenant: str) -> Quota:
    """Return what the tenant may store; it may read the database."""
    limits = state.limits.of(tenant)
    return Quota(adapters=limits.adapters, stored_bytes=limits.stored_bytes)
