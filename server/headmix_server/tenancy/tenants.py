"""Tenants: created and listed. What they own and may use is up to the catalog, keys and quotas."""

from dataclasses import dataclass

from sqlalchemy import ColumnElement, Engine, func, select

from headmix_server.database import Tenant, audit, ensure_tenant, reading, writing
from headmix_server.tenancy.tables import KeyRow


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantInfo:
    """A tenant as an administrator sees it; `created` is in Unix seconds, `keys` counts those not revoked."""

    name: str
    created: int
    keys: int


class Tenants:
    """Every tenant. Safe to use from many threads."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def create(self, name: str, *, actor: str) -> tuple[TenantInfo, bool]:
        """Create a tenant; the second value is false if it existed already.

        Raises:
            InvalidRequest: the name is malformed.
        """
        with writing(self._engine, actor) as session:
            made = session.get(Tenant, name) is None
            ensure_tenant(session, name)
            if made:
                audit(session, actor, name, "tenant.create", name)
        found = self.get(name)
        if found is None:
            raise RuntimeError(f"the tenant {name!r} was made and is not there")
        return found, made

    def get(self, name: str) -> TenantInfo | None:
        """Return the tenant, or None if there is none of this name."""
        return next(iter(self._select(Tenant.name == name)), None)

    def list(self) -> tuple[TenantInfo, ...]:
        """Return all tenants by name."""
        return self._select()

    def _select(self, *where: ColumnElement[bool]) -> tuple[TenantInfo, ...]:
        valid = select(KeyRow.tenant, func.count().label("held")).where(KeyRow.revoked.is_(None))
        counts = valid.group_by(KeyRow.tenant).subquery()
        query = select(Tenant.name, Tenant.created, func.coalesce(counts.c.held, 0).label("keys")).outerjoin(
            counts, counts.c.tenant == Tenant.name
        )
        with reading(self._engine) as session:
            rows = session.execute(query.where(*where).order_by(Tenant.name)).all()
        return tuple(TenantInfo(name=row.name, created=row.created, keys=row.keys) for row in rows)
