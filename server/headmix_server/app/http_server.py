"""uvicorn, run inside our own program: it owns neither the process's signals nor its logging."""

import contextlib
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp

CLOSING_SECONDS = 5
"""How long a stop waits for the last bytes of responses once the engine is gone."""


class HttpServer(uvicorn.Server):
    """A uvicorn server whose stop is decided elsewhere: by `should_exit`."""

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
    return HttpServer(config)
