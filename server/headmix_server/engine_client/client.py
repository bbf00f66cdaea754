"""The API process's side of the socket to the engine: requests out, outputs back to their callers.

Owns the state that clients see (starting, ready, draining, down) and the promise that every open request is answered:
by the engine, or with the reason why the engine is gone. The supervisor owns whether an engine process is alive and
when another is started: it binds one endpoint per engine process (`attach`) and removes it (`detach`). Everything runs
on one event loop; only `forget` may be called by any thread.

Listeners for reports and readiness are called between two of the engine's messages. Their failures are logged and end
nothing: only unreadable messages do.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from types import MappingProxyType
from typing import TypeVar, assert_never

from headmix_server.core.errors import EngineUnavailable, ServerOverloaded
from headmix_server.core.messages import (
    Abort,
    Aborted,
    AdapterLoaded,
    Classified,
    Classify,
    Embed,
    Embedded,
    EngineReady,
    EngineRefused,
    EngineReport,
    ForgetAdapter,
    FromEngine,
    Generate,
    LoadAdapter,
    Message,
    Output,
    Outputs,
    Request,
    Shutdown,
    TokenOutput,
    UnpinAdapter,
)
from headmix_server.core.observability.logging import get_logger
from headmix_server.core.types import Residency
from headmix_server.engine_client.computed import Computed
from headmix_server.engine_client.connection import EngineConnection
from headmix_server.engine_client.mailbox import Mailbox, is_last
from headmix_server.engine_client.open_limit import OpenLimit
from headmix_server.engine_client.socket import EngineSocket

A = TypeVar("A", Classified, Embedded, AdapterLoaded)

_OUTPUTS_AT_ONCE = 512
"""Outputs that are delivered before other tasks get a turn: about ten milliseconds."""


class EngineState(StrEnum):
    """What a request would encounter."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    DOWN = "down"


class EngineClient:
    """Sends requests and delivers their outputs. `max_open` bounds the running and waiting requests (`OpenLimit`).

    `on_report` is called with each of the engine's reports, on the event loop, and must not block. `open_socket` binds
    an endpoint; `clock` is monotonic, in seconds.

    `reason` describes why the state is not ready. `ready` is the engine's announcement; `resident` is the fastest tier
    of each adapter that it last reported, by the tenant that uses it and the digest; `last_heard` is the time of its
    last message, by `clock`.
    """

    def __init__(
        self,
        *,
        max_open: int,
        on_report: Callable[[EngineReport], None] = lambda _: None,
        open_socket: Callable[[str], EngineSocket] = EngineSocket,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._open = OpenLimit(max_open)
        self._on_report = on_report
        self._open_socket = open_socket
        self._clock = clock
        self._socket: EngineSocket | None = None
        self._connection: EngineConnection | None = None
        self._reader: asyncio.Task[None] | None = None
        self._mailboxes: dict[str, Mailbox] = {}
        self._interactive: set[str] = set()
        self._aborted: dict[str, Computed] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._watchers: list[Callable[[], None]] = []
        self._on_busy: Callable[[bool], None] = lambda _: None
        self._draining = False
        self._became_ready = asyncio.Event()
        self._became_idle = asyncio.Event()
        self._log = get_logger("engine-client")
        self.ready: EngineReady | None = None
        self.resident: Mapping[tuple[str, str], Residency] = MappingProxyType({})
        self.reason = "the engine has not been started"
        self.last_heard = clock()

    # --- life --------------------------------------------------------------------------------------------------------

    def attach(self, endpoint: str) -> EngineConnection:
        """Bind an endpoint for a new engine process to connect to; detaches the previous one.

        Raises:
            OSError: the endpoint cannot be bound.
        """
        self.detach("another engine takes over")
        self._loop = asyncio.get_running_loop()
        self._socket = self._open_socket(endpoint)
        self._connection = EngineConnection()
        self.reason = "the engine is starting"
        self.last_heard = self._clock()
        self._reader = asyncio.create_task(self._read(self._socket), name="engine-client")
        return self._connection

    def watch_ready(self, on_ready: Callable[[], None]) -> None:
        """Call `on_ready` whenever an engine has become ready."""
        self._watchers.append(on_ready)

    def watch_busy(self, on_busy: Callable[[bool], None]) -> None:
        """Call `on_busy` with true when the first request is opened, before it is sent, and false after the last.

        Background requests don't count: nobody waits for them, and a batch may keep some open for a day.
        """
        self._on_busy = on_busy

    def detach(self, reason: str) -> None:
        """Fail every open request with the reason and close the socket; no further message of that engine is read."""
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.cancel()
        socket, self._socket = self._socket, None
        if socket is not None:
            socket.close()
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.lose(reason)
        self.ready = None
        self.resident = MappingProxyType({})
        self.reason = reason
        self._became_ready.clear()
        mailboxes = list(self._mailboxes.values())
        self._mailboxes.clear()
        self._interactive.clear()
        self._open.clear()
        for mailbox in mailboxes:
            mailbox.fail(self._unavailable())
            mailbox.computed.close()
        for computed in self._aborted.values():
            computed.close()
        self._aborted.clear()
        self._became_idle.set()
        self._tell_busy(busy=False)

    def drain(self) -> None:
        """Refuse new requests from now on; open ones continue."""
        self._draining = True

    @property
    def is_draining(self) -> bool:
        """Whether the server is stopping."""
        return self._draining

    @property
    def state(self) -> EngineState:
        """What a request would encounter now."""
        if self._socket is None:
            return EngineState.DOWN
        if self._draining:
            return EngineState.DRAINING
        return EngineState.STARTING if self.ready is None else EngineState.READY

    @property
    def open_requests(self) -> int:
        """The number of running and waiting requests."""
        return len(self._mailboxes)

    async def wait_ready(self) -> EngineReady:
        """Wait until this engine, or a later one, is ready."""
        while self.ready is None:
            await self._became_ready.wait()
        return self.ready

    async def wait_idle(self) -> None:
        """Wait until no request is open."""
        while self._mailboxes:
            self._became_idle.clear()
            await self._became_idle.wait()

    def shutdown(self) -> None:
        """Ask the engine to exit; it fails open requests first. Does nothing without an engine."""
        if self.ready is not None:
            self._send(Shutdown())

    # --- requests ----------------------------------------------------------------------------------------------------

    def require_ready(self) -> EngineReady:
        """Return the engine's announcement.

        Raises:
            EngineUnavailable: the engine is down or starting.
            ServerOverloaded: the server is draining.
        """
        if self._draining:
            raise ServerOverloaded("The server is shutting down.", retry_after=EngineUnavailable.usual_retry)
        if self.ready is None:
            raise self._unavailable()
        return self.ready

    async def generate(self, message: Generate, computed: Computed | None = None) -> AsyncGenerator[TokenOutput, None]:
        """Yield the request's outputs, up to the one with a finish reason. Closing the generator early aborts it.

        `computed` counts what the engine computes for it, as in the other requests; it is final once the engine has
        stopped.

        Raises:
            EngineUnavailable: the engine is down or starting, or died in the meantime.
            ServerOverloaded: too many requests are open, or the server is draining.
            HeadmixServerError: the engine's answer.
        """
        with self._opened(message, computed) as mailbox:
            while True:
                output = await mailbox.get(TokenOutput)
                yield output
                if output.finish_reason is not None:
                    return

    async def ask(self, message: Classify | Embed | LoadAdapter, kind: type[A], computed: Computed | None = None) -> A:
        """Return the single answer to a message, which is of the given kind; raises as `generate` does."""
        with self._opened(message, computed) as mailbox:
            return await mailbox.get(kind)

    def unpin(self, digest: str, tenant: str) -> None:
        """End a tenant's pin; does nothing unless the engine is ready, since others have nothing pinned."""
        if self.ready is not None:
            self._send(UnpinAdapter(digest=digest, tenant=tenant))

    def forget(self, digest: str) -> None:
        """Tell the engine that no name refers to the digest any more; may be called by any thread.

        Does nothing unless the engine is ready, since others have nothing to forget.
        """
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._forget, digest)

    def _forget(self, digest: str) -> None:
        if self.ready is not None:
            self._send(ForgetAdapter(digest=digest))

    @contextmanager
    def _opened(self, message: Request | LoadAdapter, computed: Computed | None = None) -> Iterator[Mailbox]:
        """Submit a request; on exit, abort it unless it has ended."""
        request_id = message.request_id
        self.require_ready()
        tenant = message.adapter.tenant if isinstance(message, LoadAdapter) else message.tenant
        if not self._open.has_room(tenant):
            raise ServerOverloaded("Too many requests are waiting.")
        if request_id in self._mailboxes:
            raise ValueError(f"the request id {request_id!r} is in use")
        computed = Computed(0) if computed is None else computed
        mailbox = self._mailboxes[request_id] = Mailbox(computed)
        self._open.enter(request_id, tenant)
        if isinstance(message, LoadAdapter) or not message.background:
            self._interactive.add(request_id)
            if len(self._interactive) == 1:
                self._tell_busy(busy=True)
        try:
            self._send(message)
            computed.open()
            yield mailbox
        finally:
            if self._mailboxes.get(request_id) is mailbox:
                self._close(request_id)
                self._aborted[request_id] = computed
                self._send(Abort(request_id=request_id))

    def _close(self, request_id: str) -> None:
        del self._mailboxes[request_id]
        self._open.leave(request_id)
        if not self._mailboxes:
            self._became_idle.set()
        if request_id in self._interactive:
            self._interactive.remove(request_id)
            if not self._interactive:
                self._tell_busy(busy=False)

    def _tell_busy(self, *, busy: bool) -> None:
        with self._whatever_fails("the first or last request"):
            self._on_busy(busy)

    # --- the socket --------------------------------------------------------------------------------------------------

    def _send(self, message: Message) -> None:
        if self._socket is not None:
            self._socket.send(message)

    async def _read(self, socket: EngineSocket) -> None:
        taken = 0
        try:
            while True:
                message = await socket.receive()
                self._dispatch(message)
                # Receiving available messages never pauses, so without this no other task would get a turn.
                taken += len(message.items) + 1 if isinstance(message, Outputs) else 1
                if taken >= _OUTPUTS_AT_ONCE:
                    taken = 0
                    await asyncio.sleep(0)
        except Exception as error:  # noqa: BLE001 - on any error, no caller may wait for a reader that is gone
            if self._socket is socket:
                self._log.exception("the engine's socket failed")
                self._reader = None
                self.detach(f"the engine's messages cannot be read: {error}")

    def _dispatch(self, message: FromEngine) -> None:
        self.last_heard = self._clock()
        match message:
            case EngineReady():
                self._take_ready(message)
            case EngineRefused(reason=reason):
                if self._connection is not None:
                    self._connection.refuse(reason)
            case EngineReport():
                self._take_report(message)
            case Outputs(items=items, report=report, aborted=aborted):
                for item in items:
                    self._deliver(item)
                for account in aborted:
                    self._finish_aborted(account)
                if report is not None:
                    self._take_report(report)
            case _:
                assert_never(message)

    def _take_ready(self, ready: EngineReady) -> None:
        self.ready = ready
        self.reason = ""
        if self._connection is not None:
            self._connection.announce(ready)
        self._became_ready.set()
        for on_ready in self._watchers:
            with self._whatever_fails("the engine is ready"):
                on_ready()

    def _deliver(self, output: Output) -> None:
        """Deliver an output; that of a request aborted in the meantime has no reader, but is still counted."""
        request_id = output.request_id
        mailbox = self._mailboxes.get(request_id)
        if mailbox is not None:
            if mailbox.put(output):
                mailbox.computed.close()
                self._close(request_id)
        elif (computed := self._aborted.get(request_id)) is not None:
            computed.add(output)
            if is_last(output):
                computed.close()
                del self._aborted[request_id]

    def _finish_aborted(self, account: Aborted) -> None:
        computed = self._aborted.pop(account.request_id, None)
        if computed is not None:
            computed.update(account.counts)
            computed.close()

    def _take_report(self, report: EngineReport) -> None:
        if report.resident is not None:
            tiers = {(tenant, one.digest): one.tier for one in report.resident for tenant in one.tenants}
            self.resident = MappingProxyType(tiers)
        with self._whatever_fails("the engine reported"):
            self._on_report(report)

    @contextmanager
    def _whatever_fails(self, news: str) -> Iterator[None]:
        """Log observers' errors, so that they do not keep the engine's next message from being read."""
        try:
            yield
        except Exception:  # noqa: BLE001 - see above
            self._log.exception("an observer of the engine failed", news=news)

    def _unavailable(self) -> EngineUnavailable:
        return EngineUnavailable(f"The engine is not available: {self.reason}.")
