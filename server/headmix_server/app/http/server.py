"""uvicorn, embedded in our own program: it handles neither the process's signals nor its logging."""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

import uvicorn
from starlette.types import ASGIApp
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from headmix_server.api.middleware.refusal_pace import RefusalPace
from headmix_server.app.http.connection import ConnectionLimits, HttpConfig
from headmix_server.app.http.connection_table import ConnectionTable
from headmix_server.app.http.request_bounds import HeaderLimits
from headmix_server.core.settings.settings import Settings

if TYPE_CHECKING:
    from uvicorn._types import ASGI3Application

CLOSING_SECONDS = 5
"""How long a stop waits for the last bytes of responses after the engine has ended."""


class HttpServer(uvicorn.Server):
    """A uvicorn server that is stopped from outside, by `should_exit`. `table` holds its connections."""

    def __init__(self, config: HttpConfig) -> None:
        super().__init__(config)
        self.table = config.table

    def hand_over(self, app: ASGIApp) -> None:
        """Serve requests with this application from now on, instead of the one the server started with."""
        outermost = self.config.loaded_app
        if isinstance(outermost, ProxyHeadersMiddleware):
            outermost.app = cast("ASGI3Application", app)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone: Ctrl-C starts a drain, during which this server still responds."""
        yield


def http_server(app: ASGIApp, settings: Settings, max_connections: int) -> HttpServer:
    """Return a server for the application; its sockets are passed to `serve`."""
    limits = ConnectionLimits(
        HeaderLimits(settings.max_header_kib * 1024, settings.max_headers),
        settings.header_seconds,
        settings.idle_seconds,
    )
    pace = RefusalPace(settings.limit_refusals_per_second)
    return HttpServer(HttpConfig(app, limits, ConnectionTable(max_connections), pace, CLOSING_SECONDS))
