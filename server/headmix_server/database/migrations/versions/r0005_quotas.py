"""Limits of tenants, and their usage by adapter and day."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_LIMITS = (
    "requests_per_minute",
    "tokens_per_minute",
    "tokens_per_request",
    "concurrent_requests",
    "adapters",
    "stored_bytes",
)
_COUNTS = ("requests", "prompt_tokens", "cached_tokens", "generation_tokens")


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "limits",
        sa.Column("tenant", sa.String(), nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=True) for name in _LIMITS),
        sa.Column("weight", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.name"], name="fk_limits_tenant_tenants"),
        sa.PrimaryKeyConstraint("tenant", name="pk_limits"),
    )
    op.create_table(
        "usage",
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("day", sa.String(), nullable=False),
        sa.Column("adapter", sa.String(), nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in _COUNTS),
        sa.PrimaryKeyConstraint("tenant", "day", "adapter", name="pk_usage"),
    )
    op.create_index("ix_usage_day", "usage", ["day"])


def downgrade() -> None:
    """Drop the tables."""
    op.drop_table("usage")
    op.drop_table("limits")
