"""The tables of uploads in parts. Rows only; the row of a whole file is the catalog's, which counts its bytes."""

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from headmix_server.database import Base


class UploadRow(Base):
    """A file that arrives in parts: `size_bytes` in all, as its creator announced. Times are Unix seconds."""

    __tablename__ = "uploads"

    id: Mapped[str] = mapped_column(primary_key=True)
    tenant: Mapped[str] = mapped_column(ForeignKey("tenants.name"), index=True)
    purpose: Mapped[str]
    filename: Mapped[str]
    mime_type: Mapped[str]
    size_bytes: Mapped[int]
    state: Mapped[str]
    file_id: Mapped[str | None]
    created: Mapped[int]
    expires: Mapped[int] = mapped_column(index=True)


class UploadPartRow(Base):
    """One part; `digest` says where its bytes are."""

    __tablename__ = "upload_parts"

    id: Mapped[str] = mapped_column(primary_key=True)
    upload_id: Mapped[str] = mapped_column(ForeignKey("uploads.id"), index=True)
    digest: Mapped[str] = mapped_column(index=True)
    size_bytes: Mapped[int]
    created: Mapped[int]
