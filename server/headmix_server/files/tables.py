"""The tables of an upload's parts, of what uses files' bytes besides their rows, and of bytes to be removed.

Rows only; the rows of files and uploads are the catalog's, which counts their bytes.
"""

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from headmix_server.database import Base


class UploadPartRow(Base):
    """One part; `digest` says where its bytes are."""

    __tablename__ = "upload_parts"

    id: Mapped[str] = mapped_column(primary_key=True)
    upload_id: Mapped[str] = mapped_column(ForeignKey("uploads.id"), index=True)
    digest: Mapped[str] = mapped_column(index=True)
    size_bytes: Mapped[int]
    created: Mapped[int]


class FileHoldRow(Base):
    """One use of stored bytes: by a job, which `holder` names, or by a process that is about to refer to them.

    A process may die before it releases its hold, so that one ends at `expires`, in Unix seconds; a job's has no end.
    `size_bytes` is what the job's tenant pays for the bytes; it is null for a process's hold, for which nobody pays.
    """

    __tablename__ = "file_holds"

    id: Mapped[str] = mapped_column(primary_key=True)
    digest: Mapped[str] = mapped_column(index=True)
    holder: Mapped[str] = mapped_column(index=True)
    size_bytes: Mapped[int | None]
    expires: Mapped[int | None] = mapped_column(index=True)


class FileTombstoneRow(Base):
    """Bytes to be removed: nothing refers to them, and nothing may until they are gone and this row with them."""

    __tablename__ = "file_tombstones"

    digest: Mapped[str] = mapped_column(primary_key=True)
