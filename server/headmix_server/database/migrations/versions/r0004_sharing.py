"""Shares, canaries and pins of adapters."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables; nothing is shared, pinned or a canary yet."""
    op.create_table(
        "shares",
        sa.Column("grantee", sa.String(), nullable=False),
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("adapter_id", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["adapter_id"], ["adapters.id"], name="fk_shares_adapter_id_adapters"),
        sa.PrimaryKeyConstraint("grantee", "owner", "name", name="pk_shares"),
    )
    op.create_index("ix_shares_adapter_id", "shares", ["adapter_id"])
    op.create_table(
        "canaries",
        sa.Column("adapter_id", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("percent", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["adapter_id"], ["adapters.id"], name="fk_canaries_adapter_id_adapters"),
        sa.PrimaryKeyConstraint("adapter_id", name="pk_canaries"),
    )
    op.create_table(
        "pins",
        sa.Column("adapter_id", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["adapter_id"], ["adapters.id"], name="fk_pins_adapter_id_adapters"),
        sa.PrimaryKeyConstraint("adapter_id", name="pk_pins"),
    )


def downgrade() -> None:
    """Drop the tables."""
    for table in ("pins", "canaries", "shares"):
        op.drop_table(table)
