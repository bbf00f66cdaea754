"""What routes depend on: the state, and who is asking with which rights."""

from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.concurrency import run_in_threadpool

from headmix_server.api.record import record_of
from headmix_server.api.state import ApiState
from headmix_server.core.errors import InvalidApiKey, StorageUnavailable
from headmix_server.tenancy.keys import DEFAULT_TENANT
from headmix_server.tenancy.principal import ALL_SCOPES, Principal, Scope


def get_state(request: Request) -> ApiState:
    """Return the application's parts."""
    state = request.app.state.headmix
    if not isinstance(state, ApiState):
        raise TypeError("the application was not made by create_app")
    return state


State = Annotated[ApiState, Depends(get_state)]


Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(HTTPBearer(auto_error=False))]


async def authenticate(request: Request, state: State, credentials: Credentials) -> Principal:
    """Return whose request this is.

    Raises:
        InvalidApiKey: no key, or one that is not valid.
        StorageUnavailable: nobody may be served now.
    """
    reason = state.refusal()
    if reason is not None:
        raise StorageUnavailable(f"{reason[0].upper()}{reason[1:]}; try again.")
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


def may_administer(principal: AnyKey) -> Principal:
    """Let keys with the scope `admin` pass; others are refused."""
    principal.require(Scope.ADMIN)
    return principal


async def may_see_tenants(request: Request, state: State, credentials: Credentials) -> bool:
    """Tell whether the caller may see metrics that name tenants: with a key that may, or where they are open.

    Raises:
        InvalidApiKey, Forbidden: a key was sent that is not valid, or may not.
    """
    if credentials is None or not credentials.credentials:
        return state.settings.metrics_open or state.settings.keys == "off"
    principal = await authenticate(request, state, credentials)
    if Scope.ADMIN not in principal.scopes:
        principal.require(Scope.METRICS)
    return True


InferenceKey = Annotated[Principal, Depends(may_infer)]
AdaptersKey = Annotated[Principal, Depends(may_change_adapters)]
AdminKey = Annotated[Principal, Depends(may_administer)]
MaySeeTenants = Annotated[bool, Depends(may_see_tenants)]
