"""The database: SQLite as the embedded default, PostgreSQL by URL; how it is opened, migrated, read and written."""

from headmix_server.core.database.audit import SERVER, AuditEntry, audit, audit_entries
from headmix_server.core.database.base import Base, Tenant
from headmix_server.core.database.commits import transaction_number, was_committed
from headmix_server.core.database.faults import DatabaseUnreachable, DatabaseUnusable
from headmix_server.core.database.open import open_database
from headmix_server.core.database.patience import PROMPT
from headmix_server.core.database.session import ensure_tenant, reading, writing
from headmix_server.core.database.url import check_url

__all__ = [
    "PROMPT",
    "SERVER",
    "AuditEntry",
    "Base",
    "DatabaseUnreachable",
    "DatabaseUnusable",
    "Tenant",
    "audit",
    "audit_entries",
    "check_url",
    "ensure_tenant",
    "open_database",
    "reading",
    "transaction_number",
    "was_committed",
    "writing",
]
