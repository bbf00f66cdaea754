"""How a file's row is made, in the transaction that makes the file."""

import time

from sqlalchemy.orm import Session

from headmix_server.catalog.quota import Quota
from headmix_server.catalog.tables import FileRow
from headmix_server.database import SERVER, audit, ensure_tenant
from headmix_server.files.stored_file import Purpose, StoredFile, new_id, read_file


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
        RateLimitExceeded: the tenant would exceed its quota; a quota of None means no limit.
    """
    ensure_tenant(session, tenant)
    if quota is not None:
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
