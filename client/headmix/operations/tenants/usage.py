"""Owns the requests for usage, as objects or as CSV, and for the bytes that a tenant stores."""

from collections.abc import Sequence
from datetime import date

from headmix.http.request import Request, parser_of
from headmix.types.result import ResponseMeta
from headmix.types.tenants.usage import Storage, StorageReport, UsageLine, UsageList

GROUPS = ("tenant", "day", "model")


def read_usage(
    *,
    first: date | None = None,
    last: date | None = None,
    tenant: str | None = None,
    group_by: Sequence[str] = GROUPS,
) -> Request[tuple[UsageLine, ...]]:
    """Get the usage from day `first` to `last` (UTC, by default the last 30 days), summed by `group_by`.

    An administrator's key sees every tenant, or the one named; any other key sees only its own.
    """
    return Request("GET", "/v1/usage", _lines, query=_query(first, last, tenant, group_by))


def read_usage_csv(
    *,
    first: date | None = None,
    last: date | None = None,
    tenant: str | None = None,
    group_by: Sequence[str] = GROUPS,
) -> Request[str]:
    """Like `read_usage`, but as the text of a CSV file with a header line."""
    query = _query(first, last, tenant, group_by) | {"format": "csv"}
    return Request("GET", "/v1/usage", _text, query=query)


def read_storage(tenant: str | None = None) -> Request[Storage]:
    """Get how many bytes of artifacts and files the key's tenant stores, and its limit.

    An administrator's key may name another tenant.
    """
    return Request("GET", "/v1/usage", _storage, query=_query(None, None, tenant, ()))


def _query(first: date | None, last: date | None, tenant: str | None, group_by: Sequence[str]) -> dict[str, str | int]:
    query: dict[str, str | int] = {"group_by": ",".join(group_by)}
    query |= {} if first is None else {"from": first.isoformat()}
    query |= {} if last is None else {"to": last.isoformat()}
    query |= {} if tenant is None else {"tenant": tenant}
    return query


def _lines(body: bytes, meta: ResponseMeta) -> tuple[UsageLine, ...]:
    return parser_of(UsageList)(body, meta).data


def _storage(body: bytes, meta: ResponseMeta) -> Storage:
    return parser_of(StorageReport)(body, meta).storage


def _text(body: bytes, _: ResponseMeta) -> str:
    return body.decode("utf-8", errors="replace")
