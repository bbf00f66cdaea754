"""The base that a catalog belongs to, and the one each artifact was accepted for."""

import json

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns; an artifact counts as accepted for the base in its header until a server decides otherwise."""
    op.add_column("identity", sa.Column("base", sa.String(), nullable=True))
    op.add_column("identity", sa.Column("base_name", sa.String(), nullable=True))
    op.add_column("artifacts", sa.Column("base", sa.String(), nullable=False, server_default=""))
    connection = op.get_bind()
    headers = connection.execute(sa.text("SELECT digest, MAX(config) FROM versions GROUP BY digest")).all()
    rows = [{"digest": digest, "base": json.loads(config)["base"]["fingerprint"]} for digest, config in headers]
    if rows:
        connection.execute(sa.text("UPDATE artifacts SET base = :base WHERE digest = :digest"), rows)


def downgrade() -> None:
    """Drop the columns."""
    op.drop_column("artifacts", "base")
    op.drop_column("identity", "base_name")
    op.drop_column("identity", "base")
