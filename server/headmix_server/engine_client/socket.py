"""One ZeroMQ endpoint that one engine process connects to: messages out, messages in.

Owns ZeroMQ's options and the bytes. The meaning of messages, and when an engine is lost, are up to the engine client.
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
        """Send a message without waiting: a peer that is gone would never take it, and no caller may wait for that."""
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
        """Close the endpoint; unsent messages are dropped."""
        self._socket.close()
        self._context.term()


def _forget_result(sent: asyncio.Future[zmq.MessageTracker | None]) -> None:
    """Ignore the result: a send only fails or is cancelled on a closed socket, whose requests have been failed."""
    with suppress(asyncio.CancelledError):
        sent.exception()
