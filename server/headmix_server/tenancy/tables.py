"""The tables of keys, limits and usage. Rows only; they never contain the text of a key."""

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from headmix_server.database import Base


class KeyRow(Base):
    """One key: the sha256 of its text, and the text's first characters, to find and show it by.

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


class LimitsRow(Base):
    """The limits set for one tenant; null means the server's default, 0 no limit."""

    __tablename__ = "limits"

    tenant: Mapped[str] = mapped_column(ForeignKey("tenants.name"), primary_key=True)
    requests_per_minute: Mapped[int | None]
    tokens_per_minute: Mapped[int | None]
    tokens_per_request: Mapped[int | None]
    concurrent_requests: Mapped[int | None]
    adapters: Mapped[int | None]
    stored_bytes: Mapped[int | None]
    training_jobs: Mapped[int | None]
    training_tokens_per_day: Mapped[int | None]
    weight: Mapped[float | None]


class UsageRow(Base):
    """The usage by one tenant of one adapter (empty: the base alone) on one day (UTC, `2026-11-24`).

    It references no other table, so that it outlives what it describes.
    """

    __tablename__ = "usage"

    tenant: Mapped[str] = mapped_column(primary_key=True)
    day: Mapped[str] = mapped_column(primary_key=True, index=True)
    adapter: Mapped[str] = mapped_column(primary_key=True)
    requests: Mapped[int]
    prompt_tokens: Mapped[int]
    cached_tokens: Mapped[int]
    generation_tokens: Mapped[int]
    trained_tokens: Mapped[int]
