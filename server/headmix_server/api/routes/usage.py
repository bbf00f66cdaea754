"""GET /v1/usage: usage by tenant, day and model."""

from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import PlainTextResponse

from headmix_server.api.dependencies import AnyKey, State
from headmix_server.api.middleware.guard import GuardedRoute
from headmix_server.api.schemas.body import shown
from headmix_server.api.schemas.usage import StorageObject, UsageList, usage_csv, usage_object
from headmix_server.api.state import ApiState
from headmix_server.catalog.quota import read_stored
from headmix_server.core.errors import HeadmixServerError, InvalidRequest
from headmix_server.database import reading
from headmix_server.tenancy.keys.principal import Principal, Scope
from headmix_server.tenancy.usage.report import UsageLine

USUAL_DAYS = 30
router = APIRouter(tags=["usage"], route_class=GuardedRoute)

_GROUPS = {"tenant": "tenant", "day": "day", "model": "adapter"}
_CSV: dict[int | str, dict[str, Any]] = {200: {"content": {"text/csv": {"schema": {"type": "string"}}}}}
_CSV_TYPE = "text/csv; charset=utf-8"


@router.get("/v1/usage", responses=_CSV, response_model=UsageList)
async def get_usage(
    request: Request,
    principal: AnyKey,
    state: State,
    first: Annotated[date | None, Query(alias="from")] = None,
    last: Annotated[date | None, Query(alias="to")] = None,
    tenant: str | None = None,
    group_by: str = ",".join(_GROUPS),
    format: Literal["json", "csv"] | None = None,  # noqa: A002 - the parameter's name
) -> Response | UsageList:
    """Return the usage of the key's tenant; administrators get that of all tenants, or of the one named.

    `from` and `to` are UTC days, both included; the default is the last 30 days. `storage` has the bytes that the key's
    tenant, or the one named, stores now, and the limit on them.
    """
    last = last or datetime.now(UTC).date()
    first = first or last - timedelta(days=min(USUAL_DAYS - 1, (last - date.min).days))
    if first > last:
        raise InvalidRequest("The first day is after the last one.", param="from")
    whose, groups = _whose(principal, tenant), _groups(group_by)

    def read() -> tuple[tuple[UsageLine, ...], StorageObject]:
        with suppress(HeadmixServerError):  # what cannot be written now is missing from the report; the rest is correct
            state.usage.flush_for_reader()
        lines = state.usage_report.lines(tenant=whose, first=first, last=last, groups=groups)
        return lines, _storage(state, tenant or principal.tenant)

    lines, storage = await state.threads.manage(principal.tenant, read)
    objects = [usage_object(line, state.base.name) for line in lines]
    as_csv = format == "csv" or (format is None and "text/csv" in request.headers.get("accept", ""))
    if as_csv:
        return PlainTextResponse(usage_csv(objects), media_type=_CSV_TYPE)
    return UsageList(first=first, last=last, data=objects, storage=storage)


def _whose(principal: Principal, asked: str | None) -> str | None:
    """Return the tenant to report on; None means all."""
    if asked is None:
        return None if Scope.ADMIN in principal.scopes else principal.tenant
    if asked != principal.tenant:
        principal.require(Scope.ADMIN)
    return asked


def _storage(state: ApiState, tenant: str) -> StorageObject:
    with reading(state.database) as session:
        stored = read_stored(session, tenant)
    return StorageObject(
        tenant=tenant,
        stored_bytes=stored.size_bytes,
        held_by_jobs=stored.for_jobs,
        limit=state.limits.of(tenant).stored_bytes,
    )


def _groups(text: str) -> tuple[str, ...]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if unknown := [name for name in names if name not in _GROUPS]:
        raise InvalidRequest(f"Usage is grouped by {', '.join(_GROUPS)}, not {shown(unknown[0])}.", param="group_by")
    return tuple(_GROUPS[name] for name in names)
