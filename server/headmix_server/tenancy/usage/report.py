"""A report of usage, summed by the requested groups."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date

from sqlalchemy import Engine, func, select

from headmix_server.core.errors import InvalidRequest
from headmix_server.database import reading
from headmix_server.tenancy.tables import UsageRow
from headmix_server.tenancy.usage.meter import Used

GROUPS = ("tenant", "day", "adapter")
MOST_ROWS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageLine:
    """One sum; a group that was not requested is None. An empty `adapter` means the base alone."""

    tenant: str | None
    day: str | None
    adapter: str | None
    used: Used


class UsageReport:
    """Reads what `UsageMeter` wrote. Safe to use from many threads."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def lines(
        self, *, tenant: str | None, first: date, last: date, groups: Collection[str] = GROUPS
    ) -> tuple[UsageLine, ...]:
        """Return the sums of the days `first` to `last`, of one tenant or of all, in order.

        Raises:
            InvalidRequest: there are more than `MOST_ROWS` sums.
            ValueError: a group is unknown.
        """
        if unknown := sorted(set(groups) - set(GROUPS)):
            raise ValueError(f"usage is not grouped by {unknown[0]!r}")
        columns = [getattr(UsageRow, name) for name in GROUPS if name in groups]
        sums = [func.sum(getattr(UsageRow, name)) for name in Used.__dataclass_fields__]
        query = select(*columns, *sums).where(UsageRow.day >= first.isoformat(), UsageRow.day <= last.isoformat())
        if tenant is not None:
            query = query.where(UsageRow.tenant == tenant)
        if columns:
            query = query.group_by(*columns).order_by(*columns)
        with reading(self._engine) as session:
            rows = session.execute(query.limit(MOST_ROWS + 1)).all()
        if len(rows) > MOST_ROWS:
            raise InvalidRequest(f"More than {MOST_ROWS} lines: ask for fewer days, one tenant or fewer groups.")
        named = [name for name in GROUPS if name in groups]
        # Without groups there is always one row, of nulls if nothing was used.
        return tuple(_line(dict(zip(named, row, strict=False)), row[len(named) :]) for row in rows)


def _line(groups: dict[str, str], sums: Collection[int | None]) -> UsageLine:
    counts = [int(value or 0) for value in sums]
    return UsageLine(
        tenant=groups.get("tenant"),
        day=groups.get("day"),
        adapter=groups.get("adapter"),
        used=Used(**dict(zip(Used.__dataclass_fields__, counts, strict=True))),
    )
