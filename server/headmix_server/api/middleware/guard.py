"""Decides from a request's headers alone whether to read its body: by the key, its scope and the tenant's limits.

The framework reads and parses a body before it resolves any dependency, so a route of this class first resolves those
that only need the headers. The results are stored in the request, and the dependencies return them.
"""

from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from fastapi import Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from headmix_server.api.dependencies import SCOPED, authenticate, get_state, principal_of
from headmix_server.api.inference.tenant_limits import admit
from headmix_server.api.middleware.body.json_request import JsonRequest
from headmix_server.api.middleware.connection_share import enter
from headmix_server.api.middleware.management_rate import count_management
from headmix_server.api.middleware.request_record import record_of
from headmix_server.api.schemas.body import RequestBody

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class GuardedRoute(APIRoute):
    """A route that reads no byte of an unauthorized caller's body; routes that take no key are unaffected."""

    def get_route_handler(self) -> Handler:
        """Return the handler; the route's dependencies determine what it checks first."""
        handle = super().get_route_handler()
        asked = set(_calls(self.dependant))
        if authenticate not in asked:
            return handle
        kind = _body_of(self)
        scopes = [scope for gate, scope in SCOPED.items() if gate in asked]

        async def guarded(request: Request) -> Response:
            state = get_state(request)
            principal = await principal_of(request, state)
            record = record_of(request)
            if record.line is None:  # it has no connection
                enter(state, record, principal.tenant)
            if admit not in asked:
                await count_management(state, principal)
            for scope in scopes:
                principal.require(scope)
            if admit in asked:
                await admit(request, principal, state)
            return await handle(JsonRequest(request, state, principal.tenant, kind))

        return guarded


def _body_of(route: APIRoute) -> type[RequestBody] | None:
    """Return the class that the route's body is parsed into; None if it takes no body."""
    kind = None if route.body_field is None else route.body_field.field_info.annotation
    return kind if isinstance(kind, type) and issubclass(kind, RequestBody) else None


def _calls(dependant: Dependant) -> Iterator[Callable[..., Any] | None]:
    """Yield the functions that a route and its dependencies call."""
    yield dependant.call
    for dependency in dependant.dependencies:
        yield from _calls(dependency)
