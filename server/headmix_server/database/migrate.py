"""The versions of the schema: Alembic's revisions in `migrations/`, run within one transaction at every start.

Both supported databases run DDL in transactions, so a failed start leaves the schema as it was.
"""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect

from headmix_server.database.connection.faults import DatabaseUnusable

FIRST_REVISION = "0001"
"""The schema of the first headmix, which did not use Alembic: it marked its SQLite file with `user_version` 1."""

_ALEMBIC_MARK = 2
"""The `user_version` of a file that Alembic manages: the first headmix refuses it."""


def alembic_config(connection: Connection) -> Config:
    """Return Alembic's configuration for a connection; no file is read."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    return config


def migrate(connection: Connection) -> None:
    """Migrate the database to this program's schema; an empty one gets all of it.

    Raises:
        DatabaseUnusable: it belongs to another program, or was written by a newer headmix.
    """
    config = alembic_config(connection)
    scripts = ScriptDirectory.from_config(config)
    current = MigrationContext.configure(connection).get_current_revision()
    if current is None and inspect(connection).get_table_names():
        _require_headmix(connection)
        command.stamp(config, FIRST_REVISION)
    elif current is not None and current not in {script.revision for script in scripts.walk_revisions()}:
        raise DatabaseUnusable(
            f"has schema version {current}, and this headmix knows versions up to {scripts.get_current_head()}; "
            "use the headmix that wrote it, or another database."
        )
    command.upgrade(config, "head")
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql(f"PRAGMA user_version = {_ALEMBIC_MARK}")


def require_current(connection: Connection) -> None:
    """Check that the schema is this program's, and change nothing.

    Raises:
        DatabaseUnusable: it is another.
    """
    current = MigrationContext.configure(connection).get_current_revision()
    own = ScriptDirectory.from_config(alembic_config(connection)).get_current_head()
    if current != own:
        raise DatabaseUnusable(
            f"has schema version {current}, and this headmix works with {own}: use the same headmix as its server, "
            "which brings the schema up to date when it starts"
        )


def _require_headmix(connection: Connection) -> None:
    """Refuse tables other than those of the first headmix."""
    mark = connection.exec_driver_sql("PRAGMA user_version").scalar_one() if connection.dialect.name == "sqlite" else 0
    if mark != 1:
        raise DatabaseUnusable("is a database, but not one of headmix; choose another.")
