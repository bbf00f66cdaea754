"""What routes depend on: the application's state, and the caller with its scopes.

All of it follows from the headers: `guard` resolves it before the body is read, and the dependencies return the result.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from headmix_server.api.middleware.batch_line import BatchLine
from headmix_server.api.middleware.request_record import record_of
from headmix_server.api.state import ApiState
from headmix_server.core.errors import InvalidApiKey, RateLimitExceeded, StorageUnavailable
from headmix_server.tenancy.keys.keys import DEFAULT_TENANT
from headmix_server.tenancy.keys.principal import ALL_SCOPES, Principal, Scope


def get_state(request: Request) -> ApiState:
    """Return the application's state."""
    state = request.app.state.headmix
    if not isinstance(state, ApiState):
        raise TypeError("the application was not made by create_app")
    return state


State = Annotated[ApiState, Depends(get_state)]


_bearer = HTTPBearer(auto_error=False)
Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]


async def principal_of(request: Request, state: ApiState) -> Principal:
    """Return the principal that sent this request; it is looked up once per request, from the headers.

    Raises:
        InvalidApiKey: the key is missing or invalid.
        RateLimitExceeded: too many invalid keys came from the same address.
        StorageUnavailable: the server must not serve requests now.
    """
    record = record_of(request)
    if record.principal is None:
        record.principal = await _find_principal(request, state, record.line)
        record.tenant = record.principal.tenant
    return record.principal


async def _find_principal(request: Request, state: ApiState, line: BatchLine | None) -> Principal:
    reason = state.refusal()
    if reason is not None:
        raise StorageUnavailable(f"{reason[0].upper()}{reason[1:]}; try again.")
    if line is not None:
        return line.principal
    if state.settings.keys == "off":
        return Principal(DEFAULT_TENANT, ALL_SCOPES)
    credentials = await _bearer(request)
    if credentials is None or not credentials.credentials:
        raise InvalidApiKey("An API key is required: send it as `Authorization: Bearer <key>`.")
    return await _look_up(request, state, credentials.credentials)


async def _look_up(request: Request, state: ApiState, key: str) -> Principal:
    address = request.client.host if request.client is not None else ""
    seconds = state.failed_keys.wait(address, key)
    if seconds:
        message = f"Too many invalid API keys came from your address. Try again in {seconds} s."
        raise RateLimitExceeded(message, limit="failed_keys_per_minute", retry_after=seconds)
    try:
        principal = await state.threads.authenticate(state.keys.authenticate, key)
    except InvalidApiKey:
        state.failed_keys.failed(address)
        raise
    state.failed_keys.succeeded(key)
    return principal


async def authenticate(request: Request, state: State, _: Credentials) -> Principal:
    """Return the principal that sent this request; raises as `principal_of` does."""
    return await principal_of(request, state)


AnyKey = Annotated[Principal, Depends(authenticate)]


def may_infer(principal: AnyKey) -> Principal:
    """Admit keys with the scope `inference` and refuse others."""
    principal.require(Scope.INFERENCE)
    return principal


def may_change_adapters(principal: AnyKey) -> Principal:
    """Admit keys with the scope `adapters` and refuse others."""
    principal.require(Scope.ADAPTERS)
    return principal


def may_administer(principal: AnyKey) -> Principal:
    """Admit keys with the scope `admin` and refuse others."""
    principal.require(Scope.ADMIN)
    return principal


SCOPED: Mapping[Callable[[Principal], Principal], Scope] = MappingProxyType(
    {may_infer: Scope.INFERENCE, may_change_adapters: Scope.ADAPTERS, may_administer: Scope.ADMIN}
)
"""The scope that each of these dependencies requires."""


@dataclass(frozen=True, slots=True)
class ScrapingCaller:
    """A caller of the metrics route: whether it sent a valid key, and whether it may see metrics that name tenants."""

    has_key: bool
    sees_tenants: bool


async def may_scrape(request: Request, state: State, credentials: Credentials) -> ScrapingCaller:
    """Return what the caller may see: all metrics if its key permits that or if they are public.

    Raises:
        InvalidApiKey, Forbidden: the key is invalid, or lacks the scope.
    """
    if credentials is None or not credentials.credentials:
        return ScrapingCaller(has_key=False, sees_tenants=state.settings.metrics_open or state.settings.keys == "off")
    principal = await principal_of(request, state)
    if Scope.ADMIN not in principal.scopes:
        principal.require(Scope.METRICS)
    return ScrapingCaller(has_key=True, sees_tenants=True)


InferenceKey = Annotated[Principal, Depends(may_infer)]
AdaptersKey = Annotated[Principal, Depends(may_change_adapters)]
AdminKey = Annotated[Principal, Depends(may_administer)]
Scraper = Annotated[ScrapingCaller, Depends(may_scrape)]
