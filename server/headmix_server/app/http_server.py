"""uvicorn, run inside our own program: it owns neither the process's signals nor its logging."""

import contextlib
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp

CLOSING_SECONDS = 5
"""How long a stop waits for the last bytes of responses once the engine is gone."""


class HttpServer(uvicorn.Server):
    """A uvicorn server whose stop is decided elsewhere: by `should_exit`."""

    @property
    def parser(self) -> str:
        """What reads requests: httptools' compiled parser, or h11 in Python, many times slower."""
        return str(self.config.http_protocol_class.__module__.rsplit(".", 1)[-1].removesuffix("_impl"))

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone: Ctrl-C begins a drain, during which this server still answers."""
        yield


def http_server(app: ASGIApp) -> HttpServer:
    """Return a server for the application; sockets are given to `serve`."""
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        ws="none",
        server_header=False,
        timeout_graceful_shutdown=CLOSING_SECONDS,
    )
    config.load()  # now, so that the log can say at once which parser it found
    return HttpServer(config)
