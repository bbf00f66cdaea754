"""Serves the port before the application is ready: alive, but not ready.

The port is open from the first moment, so probes and early clients get a response rather than a refused connection.
"""

from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from headmix_server.api.middleware.error_responses import error_response
from headmix_server.core.errors import EngineUnavailable


class StartupGate:
    """An ASGI application that forwards to another one once that is `open`ed."""

    def __init__(self) -> None:
        self._inside: ASGIApp | None = None

    def open(self, inside: ASGIApp) -> None:
        """Forward every further request to `inside`."""
        self._inside = inside

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Respond to one request."""
        inside = self._inside if self._inside is not None else _starting(str(scope.get("path", "")))
        await inside(scope, receive, send)


def _starting(path: str) -> Response:
    retry = {"retry-after": str(EngineUnavailable.usual_retry)}
    if path == "/health":
        return Response(status_code=EngineUnavailable.status, headers=retry)
    if path == "/healthz":
        return JSONResponse({"status": "ok"})
    if path == "/readyz":
        return JSONResponse({"status": "starting"}, EngineUnavailable.status, retry)
    return error_response(EngineUnavailable("The server is starting."))
