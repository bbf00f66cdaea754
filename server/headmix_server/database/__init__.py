"""The database: SQLite as the embedded default, or PostgreSQL by URL; how it is opened, migrated, read and written."""

from headmix_server.database.audit import (
    SERVER,
    AuditEntry,
    audit,
    audit_entries,
    outdated_audit,
    remove_audit,
)
from headmix_server.database.base import Base, Tenant
from headmix_server.database.commits import transaction_number, was_committed
from headmix_server.database.connection.faults import DatabaseUnreachable, DatabaseUnusable
from headmix_server.database.connection.open import (
    connect_database,
    ensure_lease,
    open_database,
    require_schema,
    upgrade_database,
)
from headmix_server.database.connection.patience import PROMPT
from headmix_server.database.connection.url import check_url
from headmix_server.database.lease.lease import Holder, Lease
from headmix_server.database.lease.take_lease import LeaseHeldError, take_lease
from headmix_server.database.session import ensure_tenant, reading, writing

__all__ = [
    "PROMPT",
    "SERVER",
    "AuditEntry",
    "Base",
    "DatabaseUnreachable",
    "DatabaseUnusable",
    "Holder",
    "Lease",
    "LeaseHeldError",
    "Tenant",
    "audit",
    "audit_entries",
    "check_url",
    "connect_database",
    "ensure_lease",
    "ensure_tenant",
    "open_database",
    "outdated_audit",
    "reading",
    "remove_audit",
    "require_schema",
    "take_lease",
    "transaction_number",
    "upgrade_database",
    "was_committed",
    "writing",
]
