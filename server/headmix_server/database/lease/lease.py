"""The lease: at most one server at a time uses a database.

One row names the holder, which increments `beats` at a steady pace. A server that wants the lease watches that count
(`lease_watch`) and takes the lease once the count has not changed for as long as the holder announced. Clocks are never
compared, so their differences do not matter; and while the database is unavailable, no one can take the lease.

Owns the row and its changes, each in one transaction. When to renew it, and what its loss means, is up to the server.
"""

import secrets
from dataclasses import dataclass, field

from sqlalchemy import ColumnElement, Engine, select, update
from sqlalchemy.orm import Mapped, Session, mapped_column

from headmix_server.database.base import Base
from headmix_server.database.connection.patience import PROMPT, with_patience
from headmix_server.database.session import reading, writing

_ONLY = 1


class LeaseRow(Base):
    """The single row. `token` is the holder's secret name, null if nobody holds the lease.

    `holder` names it for people, `place` is as in `Holder`, and `seconds` is how long its count must remain unchanged
    before the lease may be taken.
    """

    __tablename__ = "server_lease"

    id: Mapped[int] = mapped_column(primary_key=True)
    token: Mapped[str | None]
    holder: Mapped[str]
    place: Mapped[str]
    seconds: Mapped[float]
    beats: Mapped[int]


@dataclass(frozen=True, slots=True)
class Holder:
    """A server that wants the lease, for `seconds` after each renewal.

    `name` is for people. `place` identifies where it runs: two servers with the same place cannot run at once, so
    either can conclude that the other is gone. An empty place implies nothing.
    """

    name: str
    seconds: float
    place: str = ""
    token: str = field(default_factory=lambda: secrets.token_hex(16))


@dataclass(frozen=True, slots=True)
class Seen:
    """The row as it was read at one time."""

    token: str | None
    holder: str
    place: str
    seconds: float
    beats: int


class Lease:
    """One server's side of the lease. Safe to use from many threads.

    Every method raises the errors of `reading` and `writing`, and SQLAlchemy's for other failures of the database.
    """

    def __init__(self, engine: Engine, holder: Holder) -> None:
        self._engine = engine.execution_options(**with_patience(PROMPT))
        self.holder = holder

    def look(self) -> Seen:
        """Return the row."""
        with reading(self._engine, patience=PROMPT) as session:
            row = session.get_one(LeaseRow, _ONLY)
            return Seen(row.token, row.holder, row.place, row.seconds, row.beats)

    def take(self, seen: Seen) -> bool:
        """Take the lease if the row is still as it was `seen`; return whether it was taken."""
        own = self.holder
        unchanged = LeaseRow.token.is_not_distinct_from(seen.token) & (LeaseRow.beats == seen.beats)
        return self._change(
            unchanged, token=own.token, holder=own.name, place=own.place, seconds=own.seconds, beats=seen.beats + 1
        )

    def renew(self) -> bool:
        """Increment the count; return whether the lease is still held."""
        return self._change(LeaseRow.token == self.holder.token, beats=LeaseRow.beats + 1)

    def release(self) -> bool:
        """Release the lease; return whether it was held."""
        return self._change(LeaseRow.token == self.holder.token, token=None)

    def is_held(self) -> bool:
        """Return whether the lease is held, without writing."""
        with reading(self._engine, patience=PROMPT) as session:
            return self.is_held_in(session)

    def is_held_in(self, session: Session) -> bool:
        """Return whether the lease is held, within a transaction; in a writing one this stays so until it commits."""
        return session.scalar(select(LeaseRow.token)) == self.holder.token

    def _change(self, where: ColumnElement[bool], **values: object) -> bool:
        with writing(self._engine) as session:
            return session.scalar(update(LeaseRow).where(where).values(**values).returning(LeaseRow.id)) is not None
