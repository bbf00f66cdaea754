"""Keys that expire and record when they were last used, and the audit."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Extend the keys and create the audit."""
    op.add_column("keys", sa.Column("expires", sa.BigInteger(), nullable=True))
    op.add_column("keys", sa.Column("last_used", sa.BigInteger(), nullable=True))
    op.create_table(
        "audit",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("action", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("detail", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit"),
    )
    op.create_index("ix_audit_tenant", "audit", ["tenant"])


def downgrade() -> None:
    """Undo it."""
    op.drop_table("audit")
    with op.batch_alter_table("keys") as keys:
        keys.drop_column("last_used")
        keys.drop_column("expires")
