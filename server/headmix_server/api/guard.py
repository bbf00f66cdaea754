"""Decides from a request's headers alone whether its body is read: the key, its scope and the tenant's limits.

The framework reads and parses a body before it asks any dependency, so a route of this class asks first those that look
at headers only. What they found is kept in the request, and the dependencies return it.
"""

from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from fastapi import Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from headmix_server.api.admission import admit
from headmix_server.api.deps import SCOPED, authenticate, get_state, principal_of
from headmix_server.api.json_request import JsonRequest
from headmix_server.api.management_rate import count_management

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class GuardedRoute(APIRoute):
    """A route that reads no byte of a body for a caller that may not ask it; routes without a key are as ever."""

    def get_route_handler(self) -> Handler:
        """Return the handler; what it asks first is read from the route's dependencies."""
        handle = super().get_route_handler()
        asked = set(_calls(self.dependant))
        if authenticate not in asked:
            return handle
        scopes = [scope for gate, scope in SCOPED.items() if gate in asked]

        async def guarded(request: Request) -> Response:
            state = get_state(request)
            principal = await principal_of(request, state)
            if admit not in asked:
                await count_management(state, principal)
            for scope in scopes:
                principal.require(scope)
            if admit in asked:
                await admit(request, principal, state)
            return await handle(JsonRequest(request.scope, request.receive))

        return guarded


def _calls(dependant: Dependant) -> Iterator[Callable[..., Any] | None]:
    """Yield what a route and its dependencies call."""
    yield dependant.call
    for dependency in dependant.dependencies:
        yield from _calls(dependency)
