"""A small real HTTP server with scripted replies that remembers its requests."""

import json
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Reply:
    """One scripted reply; a body of several blocks is sent chunked.

    `hold` is awaited before each block after the first, `silent` instead of replying. `drop` closes the connection
    without a reply, `cut` before the body's end.
    """

    status: int = 200
    body: bytes | Sequence[bytes] = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    hold: threading.Event | None = None
    silent: threading.Event | None = None
    drop: bool = False
    cut: bool = False

    @classmethod
    def of(cls, value: object, status: int = 200, **headers: str) -> "Reply":
        """Return a JSON reply; underscores in header names become dashes."""
        named = {name.replace("_", "-"): text for name, text in headers.items()}
        return cls(status, json.dumps(value).encode(), {"content-type": "application/json", **named})

    @classmethod
    def error(cls, status: int, code: str, message: str = "no", **headers: str) -> "Reply":
        """Return an error in the server's format."""
        body = {"error": {"message": message, "type": "some_error", "param": None, "code": code}}
        return cls.of(body, status, **headers)

    @classmethod
    def stream(cls, *events: object, done: bool = True, **headers: str) -> "Reply":
        """Return a server-sent event stream of JSON objects."""
        blocks = [f"data: {json.dumps(event)}\n\n".encode() for event in events]
        named = {name.replace("_", "-"): text for name, text in headers.items()}
        end = [b"data: [DONE]\n\n"] if done else []
        return cls(200, blocks + end, {"content-type": "text/event-stream", **named})


@dataclass(frozen=True)
class Received:
    """One request as the server saw it."""

    method: str
    path: str
    headers: Message
    body: bytes

    @property
    def json(self) -> object:
        """The body as JSON."""
        return json.loads(self.body)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, owner: "FakeServer") -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.owner = owner

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore clients that disconnect; here they do so on purpose."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type] # passed on unchanged


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the overridden name
        """Stay quiet."""

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", "0")))
        reply = self.server.owner.reply(Received(self.command, self.path, self.headers, body))
        if reply.silent is not None:
            reply.silent.wait(30)
        if reply.drop or reply.silent is not None:
            self.close_connection = True
        else:
            self._send(reply)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _answer  # noqa: N815 - the names http.server calls

    def _send(self, reply: Reply) -> None:
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        if isinstance(reply.body, bytes):
            self.send_header("content-length", str(len(reply.body)))
            self.end_headers()
            self.wfile.write(reply.body)
            return
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        try:
            self._send_blocks(reply, reply.body)
        except OSError:
            self.close_connection = True

    def _send_blocks(self, reply: Reply, blocks: Sequence[bytes]) -> None:
        for number, block in enumerate(blocks):
            if number and reply.hold is not None:
                reply.hold.wait(30)
            self.wfile.write(b"%x\r\n%s\r\n" % (len(block), block))
        if reply.cut:
            self.close_connection = True
        else:
            self.wfile.write(b"0\r\n\r\n")


class FakeServer:
    """Answers each (method, path) with its scripted replies in turn; the last one repeats."""

    def __init__(self) -> None:
        self.received: list[Received] = []
        self._replies: dict[str, list[Reply]] = {}
        self._http = _Server(self)
        self.url = f"http://127.0.0.1:{self._http.server_port}"

    def script(self, method: str, path: str, *replies: Reply) -> None:
        """Set the replies to a method and path (including the query)."""
        self._replies[f"{method} {path}"] = list(replies)

    @property
    def last(self) -> Received:
        """The latest request."""
        return self.received[-1]

    def reply(self, received: Received) -> Reply:
        """Return the next scripted reply."""
        self.received.append(received)
        replies = self._replies.get(f"{received.method} {received.path}", [])
        if not replies:
            return Reply.error(404, "not_scripted", f"nothing scripted for {received.method} {received.path}")
        return replies.pop(0) if len(replies) > 1 else replies[0]

    @contextmanager
    def running(self) -> Iterator["FakeServer"]:
        """Serve for the duration of the block."""
        thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield self
        finally:
            self._http.shutdown()
            thread.join()
            self._http.server_close()
