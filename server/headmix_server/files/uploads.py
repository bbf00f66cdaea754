"""Files that arrive in parts: what was announced counts against the quota from the start, and ends after an hour.

Parts are stored as they arrive, in any order; their creator says at the end which ones make the file, in which order.
"""

import hashlib
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import Engine, delete, func, select
from sqlalchemy.orm import Session

from headmix_server.catalog.bytes.upload import Upload
from headmix_server.catalog.quota import PENDING, Quota, read_stored
from headmix_server.catalog.tables import UploadRow
from headmix_server.core.errors import InvalidRequest, NotFound, PayloadTooLarge, RateLimitExceeded
from headmix_server.database import audit, ensure_tenant, reading, writing
from headmix_server.files.bytes import BLOCK_BYTES
from headmix_server.files.files import Files
from headmix_server.files.references import bury, find_file
from headmix_server.files.stored_file import Purpose, StoredFile, read_file
from headmix_server.files.tables import UploadPartRow

UPLOAD_SECONDS = 3600
PART_BYTES = 64 << 20
MOST_PARTS = 1000
MOST_PENDING = 32
"""The most pending uploads of one tenant."""
_NUMBER_ONLY = Quota()
"""With it only the number of files is checked: a completed upload's bytes have counted since it was created."""


class UploadState(StrEnum):
    """What became of an upload."""

    PENDING = PENDING
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True, kw_only=True)
class PartialUpload:
    """An upload in parts; `size_bytes` is what it announced. `file` is what it became. Times are in Unix seconds."""

    id: str
    purpose: Purpose
    filename: str
    size_bytes: int
    state: UploadState
    created: int
    expires: int
    file: StoredFile | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A stored part of an upload."""

    id: str
    upload_id: str
    size_bytes: int
    created: int


class Uploads:
    """All tenants' uploads in parts. Safe to use from many threads; methods block."""

    def __init__(self, engine: Engine, files: Files) -> None:
        self._engine = engine
        self._files = files

    def create(
        self,
        tenant: str,
        purpose: Purpose,
        filename: str,
        mime_type: str,
        size_bytes: int,
        *,
        lifetime: int | None = None,
        quota: Quota | None = None,
        actor: str,
    ) -> PartialUpload:
        """Announce a file; `lifetime` is how many seconds it will exist, if not for good.

        Raises:
            RateLimitExceeded: the tenant would exceed its quota, or has too many uploads in progress.
        """
        now = int(time.time())
        with writing(self._engine, tenant) as session:
            ensure_tenant(session, tenant)
            _check_pending(session, tenant)
            if quota is not None:
                quota.check_bytes(read_stored(session, tenant), size_bytes)
            row = UploadRow(
                id=f"upload_{secrets.token_hex(16)}",
                tenant=tenant,
                purpose=purpose.value,
                filename=filename,
                mime_type=mime_type,
                size_bytes=size_bytes,
                lifetime=lifetime,
                state=PENDING,
                file_id=None,
                created=now,
                expires=now + UPLOAD_SECONDS,
            )
            session.add(row)
            audit(session, actor, tenant, "upload.create", row.id, size_bytes=size_bytes)
            return _read(row)

    def check_part(self, tenant: str, upload_id: str, *, least: int) -> int:
        """Return how many bytes the next part may have; refuse one of at least `least` bytes that is larger.

        Raises:
            NotFound: the tenant has no such upload.
            InvalidRequest: it has ended.
            PayloadTooLarge: the part is larger than a part may be, or than what remains of the announced bytes.
        """
        with reading(self._engine) as session:
            room = _room(session, _pending(session, tenant, upload_id))
        if least > room:
            raise _too_much(room)
        return room

    def add_part(self, tenant: str, upload_id: str, upload: Upload) -> Part:
        """Store a received part.

        Raises:
            NotFound, InvalidRequest, PayloadTooLarge: as `check_part`; nothing was stored.
            InsufficientStorage, StorageUnavailable: nothing was stored.
        """

        def refer(session: Session) -> Part:
            row = _pending(session, tenant, upload_id)
            room = _room(session, row)
            if upload.size_bytes > room:
                raise _too_much(room)
            part = Part(
                id=f"part_{secrets.token_hex(16)}",
                upload_id=row.id,
                size_bytes=upload.size_bytes,
                created=int(time.time()),
            )
            session.add(
                UploadPartRow(
                    id=part.id,
                    upload_id=row.id,
                    digest=upload.digest,
                    size_bytes=part.size_bytes,
                    created=part.created,
                )
            )
            return part

        try:
            return self._files.writer.write(tenant, upload, refer)
        finally:
            self._files.removal.run()

    def complete(
        self, tenant: str, upload_id: str, part_ids: Sequence[str], *, md5: str | None = None, actor: str
    ) -> PartialUpload:
        """Make the parts, in this order, the file. Repeated, it returns the same.

        Raises:
            NotFound: the tenant has no such upload.
            InvalidRequest: it has ended; or the parts are not its own, not as large together as announced, or their
                MD5 sum, in hexadecimal, is another.
            RateLimitExceeded: the tenant has the most files allowed.
            InsufficientStorage, StorageUnavailable: nothing was stored.
        """
        with reading(self._engine) as session:
            row = _find(session, tenant, upload_id)
            if row.state == UploadState.COMPLETED and row.file_id is not None:
                return _read(row, read_file(find_file(session, tenant, row.file_id)))
            _require_pending(row)
            digests = _digests(session, row, part_ids)
            announced = _read(row)
            lifetime = row.lifetime
        with self._files.bytes.receive(max_bytes=announced.size_bytes) as whole:
            self._join(digests, whole, md5)
            expires = None if lifetime is None else int(time.time()) + lifetime

            def end(session: Session, made: StoredFile) -> None:
                row = _pending(session, tenant, upload_id)
                _digests(session, row, part_ids)
                row.state, row.file_id = UploadState.COMPLETED.value, made.id
                remove_parts(session, row.id)

            made = self._files.add(
                tenant,
                announced.purpose,
                announced.filename,
                whole,
                expires=expires,
                quota=_NUMBER_ONLY,
                actor=actor,
                also=end,
            )
        return self._ended(tenant, upload_id, made)

    def _join(self, digests: Sequence[str], whole: Upload, md5: str | None) -> None:
        summed = hashlib.md5(usedforsecurity=False)
        for digest in digests:
            with self._files.open_bytes(digest) as part:
                while block := part.read(BLOCK_BYTES):
                    whole.write(block)
                    summed.update(block)
        if md5 is not None and md5.lower() != summed.hexdigest():
            raise InvalidRequest(
                f"md5 is {md5}, and that of the parts in this order {summed.hexdigest()}.", param="md5"
            )

    def cancel(self, tenant: str, upload_id: str, *, actor: str) -> PartialUpload:
        """Cancel an upload and remove its parts. Repeated, it returns the same.

        Raises:
            NotFound: the tenant has no such upload.
            InvalidRequest: it is complete, or has expired.
        """
        with writing(self._engine, tenant) as session:
            row = _find(session, tenant, upload_id)
            if row.state != UploadState.CANCELLED:
                _require_pending(row)
                row.state = UploadState.CANCELLED.value
                remove_parts(session, row.id)
                audit(session, actor, tenant, "upload.cancel", row.id)
            cancelled = _read(row)
        self._files.removal.run()
        return cancelled

    def _ended(self, tenant: str, upload_id: str, made: StoredFile) -> PartialUpload:
        with reading(self._engine) as session:
            return _read(_find(session, tenant, upload_id), made)


def remove_parts(session: Session, upload_id: str) -> None:
    """Remove an upload's parts; call it within the transaction that ends it."""
    of_upload = UploadPartRow.upload_id == upload_id
    digests = session.scalars(select(UploadPartRow.digest).where(of_upload)).all()
    session.execute(delete(UploadPartRow).where(of_upload))
    bury(session, *digests)


def _find(session: Session, tenant: str, upload_id: str) -> UploadRow:
    row = session.scalar(select(UploadRow).where(UploadRow.id == upload_id, UploadRow.tenant == tenant))
    if row is None:
        raise NotFound(f"There is no upload {upload_id[:64]!r}.", param="upload_id")
    return row


def _pending(session: Session, tenant: str, upload_id: str) -> UploadRow:
    row = _find(session, tenant, upload_id)
    _require_pending(row)
    return row


def _require_pending(row: UploadRow) -> None:
    state = UploadState(row.state)
    if state is UploadState.PENDING and row.expires <= int(time.time()):
        state = UploadState.EXPIRED
    if state is not UploadState.PENDING:
        raise InvalidRequest(f"The upload {row.id} is {state.value}.", param="upload_id")


def _check_pending(session: Session, tenant: str) -> None:
    open_now = (UploadRow.tenant == tenant, UploadRow.state == PENDING, UploadRow.expires > int(time.time()))
    count = session.scalars(select(func.count()).select_from(UploadRow).where(*open_now)).one()
    if count >= MOST_PENDING:
        raise RateLimitExceeded(
            f"The tenant has {count} uploads in parts in progress, the most allowed. Complete or cancel one first.",
            limit="uploads",
        )


def _room(session: Session, row: UploadRow) -> int:
    """Return how many bytes the upload's next part may have.

    Raises:
        InvalidRequest: it has the most parts allowed.
    """
    of_upload = UploadPartRow.upload_id == row.id
    count, size = session.execute(
        select(func.count(), func.coalesce(func.sum(UploadPartRow.size_bytes), 0)).where(of_upload)
    ).one()
    if count >= MOST_PARTS:
        raise InvalidRequest(f"An upload has at most {MOST_PARTS} parts.", param="data")
    return min(PART_BYTES, row.size_bytes - int(size))


def _too_much(room: int) -> PayloadTooLarge:
    message = f"The part is larger than {PART_BYTES} bytes, or than what remains of the announced bytes: {room}."
    return PayloadTooLarge(message, param="data")


def _digests(session: Session, row: UploadRow, part_ids: Sequence[str]) -> list[str]:
    """Return the digests of the parts of an upload, which must be as large together as announced."""
    of_upload = UploadPartRow.upload_id == row.id
    parts = {part.id: part for part in session.scalars(select(UploadPartRow).where(of_upload))}
    if len(set(part_ids)) != len(part_ids) or not parts.keys() >= set(part_ids):
        raise InvalidRequest("part_ids takes ids of this upload's parts, each once.", param="part_ids")
    size = sum(parts[part_id].size_bytes for part_id in part_ids)
    if size != row.size_bytes:
        raise InvalidRequest(
            f"The parts have {size} bytes together, and the upload announced {row.size_bytes}.", param="part_ids"
        )
    return [parts[part_id].digest for part_id in part_ids]


def _read(row: UploadRow, file: StoredFile | None = None) -> PartialUpload:
    return PartialUpload(
        id=row.id,
        purpose=Purpose(row.purpose),
        filename=row.filename,
        size_bytes=row.size_bytes,
        state=UploadState(row.state),
        created=row.created,
        expires=row.expires,
        file=file,
    )
