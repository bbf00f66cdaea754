"""The table of keys. Rows only; a key's text is never among them."""

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from headmix_server.core.database import Base


class KeyRow(Base):
    """One key: the sha256 of its text, and the first characters of it to find and show it by.

    Times are Unix seconds; a key is invalid from `revoked` or `expires` on, whichever comes first.
    """

    __tablename__ = "keys"

    id: Mapped[str] = mapped_column(primary_key=True)
    tenant: Mapped[str] = mapped_column(ForeignKey("tenants.name"), index=True)
    name: Mapped[str | None]
    prefix: Mapped[str] = mapped_column(index=True)
    hash: Mapped[bytes]
    scopes: Mapped[str]
    created: Mapped[int]
    revoked: Mapped[int | None]
    expires: Mapped[int | None]
    last_used: Mapped[int | None]
