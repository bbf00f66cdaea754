"""The outcome of a transaction whose commit was sent but never confirmed.

This can only happen if the database is on another machine: PostgreSQL remembers by number how each transaction ended,
even across its own crashes. SQLite either confirms a commit or has written nothing.
"""

from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from headmix_server.database.session import reading

_FROM_THE_FUTURE = "22023"


def transaction_number(session: Session) -> int | None:
    """Return the number to look up the transaction's outcome by; None if a failed commit means nothing was written."""
    if session.get_bind().dialect.name != "postgresql":
        return None
    return int(session.execute(text("SELECT txid_current()")).scalar_one())


def was_committed(engine: Engine, number: int) -> bool | None:
    """Return whether the transaction was committed; None while it is still running.

    Raises:
        HeadmixServerError: as `reading`.
    """
    try:
        with reading(engine) as session:
            status = session.execute(text("SELECT txid_status(:number)"), {"number": number}).scalar_one()
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) != _FROM_THE_FUTURE:
            raise
        return False  # the server was replaced by one that never saw the transaction
    return None if status == "in progress" else bool(status == "committed")
