"""PostgreSQL: readers see one snapshot, writers take turns on one advisory lock.

The lock gives writers what SQLite's `BEGIN IMMEDIATE` gives them, so the code above needs to know one kind of database.
"""

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL

WRITE_LOCK = 0x6865_6164_6D69_78  # "headmix"


def postgres_engine(url: URL, busy_seconds: float) -> Engine:
    """Return an engine that speaks to the URL's server through psycopg; connections are tested before use."""
    engine = create_engine(
        url.set(drivername="postgresql+psycopg"),
        pool_size=8,
        max_overflow=56,
        pool_pre_ping=True,
        isolation_level="REPEATABLE READ",
        connect_args={
            "connect_timeout": max(2, int(busy_seconds)),
            "application_name": "headmix",
            "options": f"-c lock_timeout={int(busy_seconds * 1000)}",
        },
    )
    event.listen(engine, "begin", _begin)
    return engine


def _begin(connection: Connection) -> None:
    if connection.get_execution_options().get("immediate", False):
        # Under REPEATABLE READ the statement that waits for the lock would fix the snapshot before it has the lock.
        connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({WRITE_LOCK})")
