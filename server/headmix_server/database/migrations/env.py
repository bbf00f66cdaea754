"""Alembic's entry point: runs the revisions on the given connection, inside the caller's transaction."""

from alembic import context

from headmix_server.database.base import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,  # SQLite changes a column by copying the table
    compare_type=True,
)
context.run_migrations()
