"""Holds the outputs of one open engine request until its caller reads them.

Its size needs no separate bound: a request's outputs are bounded by its `max_tokens`, so a slow reader costs at most
one completion.
"""

import asyncio
from collections import deque
from typing import TypeVar

from headmix_server.core.errors import HeadmixServerError, InternalError, error_from_code
from headmix_server.core.messages import Answer, Failed, Output, TokenOutput
from headmix_server.engine_client.computed import Computed

A = TypeVar("A", bound=Answer)


class Mailbox:
    """The queue of one request, with one reader, all on the event loop. `computed` counts what arrives, read or not."""

    def __init__(self, computed: Computed) -> None:
        self.computed = computed
        self._items: deque[Answer | HeadmixServerError] = deque()
        self._reader: asyncio.Future[None] | None = None

    def put(self, output: Output) -> bool:
        """Deliver an output; return whether it was the request's last."""
        self.computed.add(output)
        if isinstance(output, Failed):
            self.fail(error_from_code(output.code, output.message))
            return True
        self._items.append(output)
        self._wake()
        return is_last(output)

    def fail(self, error: HeadmixServerError) -> None:
        """End the request with an error, raised after everything delivered before has been read."""
        self._items.append(error)
        self._wake()

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    async def get(self, kind: type[A]) -> A:
        """Return the next output, waiting for it.

        Raises:
            HeadmixServerError: the request failed, or the output is of a different kind than requested.
        """
        while not self._items:
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader
        item = self._items.popleft()
        if isinstance(item, HeadmixServerError):
            raise item
        if not isinstance(item, kind):
            raise InternalError(f"the engine answered with {type(item).__name__}, not {kind.__name__}")
        return item


def is_last(output: Output) -> bool:
    """Return whether an output ends its request."""
    return not isinstance(output, TokenOutput) or output.finish_reason is not None
