"""Holds on stored bytes know how many they are, so that what unfinished jobs keep counts towards a tenant's quota."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_FILL = sa.text(
    "UPDATE file_holds SET size_bytes = "
    "(SELECT max(files.size_bytes) FROM files WHERE files.digest = file_holds.digest) "
    "WHERE file_holds.expires IS NULL"
)
"""Holds of jobs do not expire. One on bytes that are no file stays without a size: nothing else tells it."""


def upgrade() -> None:
    """Add the size, as far as files tell it, and the index that finds a tenant's unfinished jobs."""
    op.add_column("file_holds", sa.Column("size_bytes", sa.BigInteger(), nullable=True))
    op.execute(_FILL)
    op.create_index("ix_jobs_tenant_state", "jobs", ["tenant", "state"])


def downgrade() -> None:
    """Drop both."""
    op.drop_index("ix_jobs_tenant_state", "jobs")
    with op.batch_alter_table("file_holds") as holds:
        holds.drop_column("size_bytes")
