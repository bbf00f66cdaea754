"""How a file's row is made, in the transaction that makes the file."""

import time

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from headmix_server.catalog.quota import Quota
from headmix_server.catalog.tables import FileRow
from headmix_server.core.errors import RateLimitExceeded
from headmix_server.database import SERVER, audit, ensure_tenant
from headmix_server.files.stored_file import Purpose, StoredFile, new_id, read_file

MOST_FILES = 10_000
"""The most files a tenant may have: small ones, and those with the same bytes, cost almost nothing of its quota."""


def record_file(
    session: Session,
    tenant: str,
    purpose: Purpose,
    filename: str,
    digest: str,
    size_bytes: int,
    *,
    expires: int | None = None,
    quota: Quota | None = None,
    actor: str = SERVER,
) -> StoredFile:
    """Make stored bytes a file of the tenant's; they are held, or referred to already.

    Raises:
        RateLimitExceeded: the tenant would exceed its quota or has too many files; a quota of None means no limit.
    """
    ensure_tenant(session, tenant)
    if quota is not None:
        _check_count(session, tenant)
        quota.check_file(session, tenant, digest, size_bytes)
    now = int(time.time())
    row = FileRow(
        id=new_id(now),
        tenant=tenant,
        purpose=purpose.value,
        filename=filename,
        digest=digest,
        size_bytes=size_bytes,
        created=now,
        expires=expires,
    )
    session.add(row)
    session.flush()
    audit(session, actor, tenant, "file.create", row.id, digest=digest, purpose=purpose.value, size_bytes=size_bytes)
    return read_file(row)


def _check_count(session: Session, tenant: str) -> None:
    count = session.scalars(select(func.count()).select_from(FileRow).where(FileRow.tenant == tenant)).one()
    if count >= MOST_FILES:
        raise RateLimitExceeded(
            f"The tenant has {count} files, the most allowed. Delete one first.", limit="files", param="file"
        )
