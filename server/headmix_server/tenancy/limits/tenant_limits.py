"""Every tenant's limits: stored in the database, changed by administrators, cached for requests.

A change applies at once; one made directly in the database, within `REMEMBERED_SECONDS`.
"""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from headmix_server.database import PROMPT, audit, ensure_tenant, reading, writing
from headmix_server.tenancy.limits.limits import LIMIT_NAMES, Limits
from headmix_server.tenancy.tables import LimitsRow

REMEMBERED_SECONDS = 10.0
_MOST_REMEMBERED = 10_000

Changes = Mapping[str, int | float | None]
"""New values by the limit's name; None resets to the default."""


class TenantLimits:
    """Limits by tenant. Safe to use from many threads; `clock` is monotonic, in seconds."""

    def __init__(self, engine: Engine, defaults: Limits, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._engine = engine
        self._clock = clock
        self._lock = threading.Lock()
        self._remembered: dict[str, tuple[float, Limits]] = {}
        self._changes = 0
        self.defaults = defaults

    def remembered(self, tenant: str) -> Limits | None:
        """Return the tenant's limits from the cache, or None if the database must be read."""
        entry = self._remembered.get(tenant)
        return None if entry is None or self._clock() >= entry[0] else entry[1]

    def of(self, tenant: str) -> Limits:
        """Return the tenant's limits; an unknown tenant has the defaults."""
        limits = self.remembered(tenant)
        if limits is not None:
            return limits
        with self._lock:
            changes = self._changes
        own = self.own(tenant)
        set_here: dict[str, Any] = {name: value for name, value in own.items() if value is not None}
        limits = replace(self.defaults, **set_here)
        with self._lock:
            # What was read before a change must not be cached after it.
            if changes == self._changes:
                if len(self._remembered) >= _MOST_REMEMBERED:
                    self._remembered.clear()
                self._remembered[tenant] = (self._clock() + REMEMBERED_SECONDS, limits)
        return limits

    def own(self, tenant: str) -> dict[str, int | float | None]:
        """Return the values set for the tenant itself; None means the default."""
        with reading(self._engine, patience=PROMPT) as session:
            return _read(session, tenant)

    def change(self, tenant: str, changes: Changes, *, actor: str) -> None:
        """Set limits of a tenant; limits that are not named remain unchanged.

        Raises:
            InvalidRequest: the tenant's name is malformed.
            ValueError: there is no limit of this name.
        """
        if unknown := sorted(changes.keys() - set(LIMIT_NAMES)):
            raise ValueError(f"there is no limit {unknown[0]!r}")
        with writing(self._engine, tenant) as session:
            ensure_tenant(session, tenant)
            before = _read(session, tenant)
            after = before | dict(changes)
            if after != before:
                session.merge(LimitsRow(tenant=tenant, **after))
                changed = {name: value for name, value in after.items() if value != before[name]}
                audit(session, actor, tenant, "tenant.limits", tenant, **changed)
        with self._lock:
            self._changes += 1
            self._remembered.pop(tenant, None)


def _read(session: Session, tenant: str) -> dict[str, int | float | None]:
    row = session.get(LimitsRow, tenant)
    return {name: None if row is None else getattr(row, name) for name in LIMIT_NAMES}


def as_numbers(limits: Limits) -> dict[str, int | float]:
    """Return the limits by name."""
    return asdict(limits)
