"""uvicorn, run inside our own program: it owns neither the process's signals nor its logging."""

import contextlib
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp

from headmix_server.api.middleware.refusal_pace import RefusalPace
from headmix_server.app.http.connection import ConnectionLimits, HttpConfig
from headmix_server.app.http.connection_table import ConnectionTable
from headmix_server.app.http.request_bounds import HeaderLimits
from headmix_server.core.settings import Settings

CLOSING_SECONDS = 5
"""How long a stop waits for the last bytes of responses once the engine is gone."""


class HttpServer(uvicorn.Server):
    """A uvicorn server whose stop is decided elsewhere: by `should_exit`. `table` has its connections."""

    def __init__(self, config: HttpConfig) -> None:
        super().__init__(config)
        self.table = config.table

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone: Ctrl-C begins a drain, during which this server still answers."""
        yield


def http_server(app: ASGIApp, settings: Settings, max_connections: int) -> HttpServer:
    """Return a server for the application; sockets are given to `serve`."""
    limits = ConnectionLimits(
        HeaderLimits(settings.max_header_kib * 1024, settings.max_headers),
        settings.header_seconds,
        settings.idle_seconds,
    )
    pace = RefusalPace(settings.limit_refusals_per_second)
    return HttpServer(HttpConfig(app, limits, ConnectionTable(max_connections), pace, CLOSING_SECONDS))
