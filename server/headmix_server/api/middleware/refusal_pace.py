"""How fast refusals go out: past a rate, each waits for its turn, so that asking in vain again and again costs others
nothing to notice.

A refused request still has to be received, judged and answered, on cores that the engine computes with. What is paced
is one tenant's refusals, or what one address is answered without a key. The rest of an answer's life is over before it
waits: its body is freed, its places are given back.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable

from starlette.types import Message, Scope, Send

from headmix_server.api.middleware.request_record import record_in
from headmix_server.tenancy.failed_keys import network_of

MOST_SECONDS = 5.0
"""No answer waits longer, however many wait before it."""
BYTES_OF_ONE = 256 * 1024
"""What is received and judged for about as much as a small request costs."""
_MOST_REMEMBERED = 10_000


class RefusalPace:
    """When the next refusal of each party is due; used on one event loop. 0 a second paces nothing.

    A second's worth goes out at once. `clock` is monotonic, in seconds.
    """

    def __init__(self, per_second: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second = per_second
        self._clock = clock
        self._due: OrderedDict[str, float] = OrderedDict()

    def take(self, party: str, body_bytes: int = 0) -> float:
        """Return the seconds that a refusal has to wait, and count it; one with a large body counts for several.

        The virtual scheduling algorithm of ATM Forum's traffic management specification (GCRA).
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
    """Answers that are sent later where they are a refusal too many.

    At most `most_waiting` answers wait; one more goes out at once. An answer that waits keeps its connection, and
    others need some.
    """

    def __init__(self, pace: RefusalPace, most_waiting: int) -> None:
        self._pace = pace
        self._most_waiting = most_waiting
        self._waiting = 0

    def answer_to(self, scope: Scope, send: Send) -> "PacedAnswer":
        """Return the way for a request's answer."""
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
    """One request's answer: sent as it arrives, or kept from its first message on until `release`."""

    def __init__(self, paced: PacedRefusals, scope: Scope, send: Send) -> None:
        self._paced = paced
        self._scope = scope
        self._send = send
        self._kept: list[Message] = []

    async def send(self, message: Message) -> None:
        """Send a message, or keep it where the answer is paced."""
        if self._kept or (message["type"] == "http.response.start" and _is_paced(self._scope, message["status"])):
            self._kept.append(message)
        else:
            await self._send(message)

    async def release(self) -> None:
        """Send what was kept, when it is due; call it once everything else about the request is over."""
        if self._kept:
            await self._paced.wait(self._scope)
        for message in self._kept:
            await self._send(message)


def _is_paced(scope: Scope, status: int) -> bool:
    """Return whether this is a refusal, or an answer to nobody in particular, as of probes and scrapes."""
    return status >= 400 or record_in(scope).principal is None


def _party(scope: Scope) -> str:
    """Return whose answer it is; a tenant's name has no colon."""
    return record_in(scope).tenant or party_at(scope.get("client"))


def party_at(client: tuple[str, int] | None) -> str:
    """Return the caller without a key, which is identified by the client's address."""
    return f"address:{network_of(client[0] if client else '')}"
