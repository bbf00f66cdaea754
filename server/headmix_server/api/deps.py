"""What routes depend on: the state, and who is asking with which rights."""

from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.concurrency import run_in_threadpool

from headmix_server.api.record import record_of
from headmix_server.api.state import ApiState
from headmix_server.core.errors import InvalidApiKey
from headmix_server.tenancy.keys import DEFAULT_TENANT
from headmix_server.tenancy.principal import ALL_SCOPES, Principal, Scope


def get_state(request: Request) -> ApiState:
    """Return the application's parts."""
    state = request.app.state.headmix
    if not isinstance(state, ApiState):
        raise TypeError("the application was not made by create_app")
    return state


State = Annotated[ApiState, Depends(get_state)]


async def authenticate(
    request: Request,
    state: State,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(HTTPBearer(auto_error=False))],
) -> Principal:
    """Return whose request this is.

    Raises:
        InvalidApiKey: no key, or one that is not valid.
    """
    if state.settings.keys == "off":
        principal = Principal(DEFAULT_TENANT, ALL_SCOPES)
    elif credentials is None or not credentials.credentials:
        raise InvalidApiKey("An API key is needed: send it as `Authorization: Bearer <key>`.")
    else:
        principal = await run_in_threadpool(state.keys.authenticate, credentials.credentials)
    record_of(request).tenant = principal.tenant
    return principal


AnyKey = Annotated[Principal, Depends(authenticate)]


def may_infer(principal: AnyKey) -> Principal:
    """Let keys with the scope `inference` pass; others are refused."""
    principal.require(Scope.INFERENCE)
    return principal


def may_change_adapters(principal: AnyKey) -> Principal:
    """Let keys with the scope `adapters` pass; others are refused."""
    principal.require(Scope.ADAPTERS)
    return principal


InferenceKey = Annotated[Principal, Depends(may_infer)]
AdaptersKey = Annotated[Principal, Depends(may_change_adapters)]
