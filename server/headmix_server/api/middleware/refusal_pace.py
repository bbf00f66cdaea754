"""Slows refusals down: beyond a rate, each waits for its turn, so that a client that keeps sending refused requests
costs others nothing noticeable.

A refused request still has to be received, checked and answered, on the cores that the engine computes with. The pace
applies to one tenant's refusals, and to all responses to one address without a key. A response waits only after
everything else about its request is over: its body is freed, and it no longer counts among the open requests.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable

from starlette.types import Message, Scope, Send

from headmix_server.api.middleware.request_record import record_in
from headmix_server.tenancy.failed_keys import network_of

MOST_SECONDS = 5.0
"""No response waits longer, however many are queued before it."""
BYTES_OF_ONE = 256 * 1024
"""Receiving and checking this much costs about as much as a small request."""
_MOST_REMEMBERED = 10_000


class RefusalPace:
    """When the next refusal of each party is due; used on one event loop. A rate of 0 disables pacing.

    A second's worth of refusals goes out immediately. `clock` is monotonic, in seconds.
    """

    def __init__(self, per_second: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second = per_second
        self._clock = clock
        self._due: OrderedDict[str, float] = OrderedDict()

    def take(self, party: str, body_bytes: int = 0) -> float:
        """Return the seconds that a refusal has to wait, and count it; one with a large body counts as several.

        This is the virtual scheduling algorithm (GCRA) of the ATM Forum's traffic management specification.
        """
        if not self._per_second:
            return 0.0
        now = self._clock()
        due = max(self._due.get(party, 0.0), now)
        wait = min(max(0.0, due - now - 1.0), MOST_SECONDS)
        cost = (1 + body_bytes / BYTES_OF_ONE) / self._per_second
        self._due[party] = min(due + cost, now + 1.0 + MOST_SECONDS)
        self._due.move_to_end(party)
        if len(self._due) > _MOST_REMEMBERED:
            self._due.popitem(last=False)
        return wait


class PacedRefusals:
    """Delays the responses that exceed the pace of refusals.

    At most `most_waiting` responses wait; any further one goes out immediately. A waiting response occupies a
    connection, and other clients need some.
    """

    def __init__(self, pace: RefusalPace, most_waiting: int) -> None:
        self._pace = pace
        self._most_waiting = most_waiting
        self._waiting = 0

    def answer_to(self, scope: Scope, send: Send) -> "PacedAnswer":
        """Return the sender of a request's response."""
        return PacedAnswer(self, scope, send)

    async def wait(self, scope: Scope) -> None:
        """Wait until the refusal of a request is due."""
        seconds = self._pace.take(_party(scope), record_in(scope).body_bytes)
        if not seconds or self._waiting >= self._most_waiting:
            return
        self._waiting += 1
        try:
            await asyncio.sleep(seconds)
        finally:
            self._waiting -= 1


class PacedAnswer:
    """One request's response: sent as it arrives, or kept from its first message until `release`."""

    def __init__(self, paced: PacedRefusals, scope: Scope, send: Send) -> None:
        self._paced = paced
        self._scope = scope
        self._send = send
        self._kept: list[Message] = []

    async def send(self, message: Message) -> None:
        """Send a message, or keep it if the response is paced."""
        if self._kept or (message["type"] == "http.response.start" and _is_paced(self._scope, message["status"])):
            self._kept.append(message)
        else:
            await self._send(message)

    async def release(self) -> None:
        """Send what was kept once it is due. Call it after everything else about the request is over."""
        if self._kept:
            await self._paced.wait(self._scope)
        for message in self._kept:
            await self._send(message)


def _is_paced(scope: Scope, status: int) -> bool:
    """Return whether this is a refusal, or a response to a caller without a key, such as a probe or a scrape.

    Lines of batches are not: the server itself sends them, a few at a time.
    """
    record = record_in(scope)
    return record.line is None and (status >= 400 or record.principal is None)


def _party(scope: Scope) -> str:
    """Return whose response it is. A tenant's name has no colon, so it cannot collide with an address."""
    return record_in(scope).tenant or party_at(scope.get("client"))


def party_at(client: tuple[str, int] | None) -> str:
    """Return the party of a caller without a key, identified by its address."""
    return f"address:{network_of(client[0] if client else '')}"
