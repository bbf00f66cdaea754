"""A request that keeps its JSON body only until it is parsed, not until the response is complete.

Owns where it is parsed: a small body on the event loop, by the framework; a large one, which could take seconds there,
in a worker, in its tenant's turn.
"""

import json
from typing import Any

from fastapi import Request

from headmix_server.api.inference.lengths import context_length
from headmix_server.api.middleware.body.body_job import Fault, ReadBody
from headmix_server.api.middleware.body.bounds import bounds_of
from headmix_server.api.middleware.disconnect import until_disconnected
from headmix_server.api.middleware.error_responses import BodyRefused, request_error
from headmix_server.api.schemas.body import RequestBody
from headmix_server.api.schemas.common import LARGEST
from headmix_server.api.state import ApiState
from headmix_server.core.errors import HeadmixServerError
from headmix_server.core.observability.logging import get_logger

INLINE_BYTES = 16 << 10
"""A larger body is parsed off the event loop."""

_PRESENT = b"{}"
"""A stand-in for the body: the framework requests the bytes, keeps them, and then requests the JSON."""


class JsonRequest(Request):
    """The request that routes receive; a non-JSON body is dropped unread. `kind` is the route's body class, if any."""

    _raw: bytes = b""

    def __init__(self, request: Request, state: ApiState, tenant: str, kind: type[RequestBody] | None) -> None:
        super().__init__(request.scope, request.receive)
        self._headmix = state
        self._tenant = tenant
        self._kind = kind

    async def body(self) -> bytes:
        """Read the body, but return only a stand-in for it, or nothing if it is empty."""
        if not self._stream_consumed:
            self._raw = b"".join([block async for block in self.stream()])
        return _PRESENT if self._raw else b""

    async def json(self) -> Any:  # noqa: ANN401 - the framework's signature
        """Parse the body once and drop its bytes; a large one comes back validated.

        Raises:
            ValueError: it is not JSON.
            BodyRefused: a large body is invalid for this route, or cannot be read now.
        """
        await self.body()
        raw, self._raw = self._raw, b""
        is_large = self._kind is not None and len(raw) > INLINE_BYTES
        get_logger("api").debug("body", by="worker" if is_large else "event loop", bytes=len(raw))
        return await self._read(self._kind, raw) if is_large and self._kind is not None else json.loads(raw)

    async def _read(self, kind: type[RequestBody], raw: bytes) -> RequestBody:
        state = self._headmix
        ready = state.engine.ready
        job = ReadBody(kind, raw, bounds_of(state.settings), LARGEST if ready is None else context_length(ready))
        try:
            read = await until_disconnected(self, state.text_workers.run(self._tenant, job, len(raw)))
        except HeadmixServerError as error:
            raise BodyRefused(error) from error
        if isinstance(read, Fault):
            raise BodyRefused(request_error([read.as_mapping()]))
        return read
