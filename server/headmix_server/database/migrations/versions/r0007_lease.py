"""The lease: which server uses the database."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the row; nobody holds it. Later versions must not change the table: starts read it before they migrate."""
    lease = op.create_table(
        "server_lease",
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("token", sa.String(), nullable=True),
        sa.Column("holder", sa.String(), nullable=False),
        sa.Column("place", sa.String(), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.Column("beats", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_server_lease"),
    )
    op.bulk_insert(lease, [{"id": 1, "token": None, "holder": "", "place": "", "seconds": 0.0, "beats": 0}])


def downgrade() -> None:
    """Drop the table."""
    op.drop_table("server_lease")
