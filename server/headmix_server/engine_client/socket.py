"""One endpoint of ZeroMQ that one engine process connects to: messages out, messages in.

Owns ZeroMQ's options and the bytes. What a message means, and when an engine is lost, is the engine client's.
"""

import asyncio
from contextlib import suppress

import zmq
import zmq.asyncio

from headmix_server.core.messages import FromEngine, Message, decode_from_engine, encode


class EngineSocket:
    """A bound PAIR socket; used on one event loop."""

    def __init__(self, endpoint: str) -> None:
        """Bind the endpoint.

        Raises:
            OSError: it cannot be bound.
        """
        self._context = zmq.asyncio.Context()
        self._socket = self._context.socket(zmq.PAIR)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.SNDHWM, 0)
        self._socket.setsockopt(zmq.RCVHWM, 0)
        try:
            self._socket.bind(endpoint)
        except zmq.ZMQError as error:
            self.close()
            raise OSError(error.errno, f"{endpoint} cannot be bound: {error.strerror}") from error

    def send(self, message: Message) -> None:
        """Send a message, without waiting: a peer that is gone takes nothing, and nobody may wait for it."""
        sent = asyncio.ensure_future(self._socket.send(encode(message)))
        sent.add_done_callback(_forget_result)

    async def receive(self) -> FromEngine:
        """Wait for the next message.

        Raises:
            msgspec.MsgspecError: the frame is malformed.
            zmq.ZMQError: the socket was closed.
        """
        return decode_from_engine(await self._socket.recv())

    def close(self) -> None:
        """Close the endpoint; what was not sent is dropped."""
        self._socket.close()
        self._context.term()


def _forget_result(sent: asyncio.Future[zmq.MessageTracker | None]) -> None:
    """A send that fails or is cancelled belongs to a socket that was closed; its requests were told."""
    with suppress(asyncio.CancelledError):
        sent.exception()
