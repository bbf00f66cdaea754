"""Artifacts as rows of their own, the state of versions, and the catalog's identity."""

import secrets

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the rows of the stored artifacts; all existing versions are ready."""
    op.create_table(
        "artifacts",
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name="pk_artifacts"),
    )
    op.execute(
        "INSERT INTO artifacts (digest, size_bytes, created) "
        "SELECT digest, MAX(size_bytes), MIN(created) FROM versions GROUP BY digest"
    )
    with op.batch_alter_table("versions") as versions:
        versions.add_column(sa.Column("state", sa.String(), nullable=False, server_default="ready"))
        versions.create_foreign_key("fk_versions_digest_artifacts", "artifacts", ["digest"], ["digest"])
    with op.batch_alter_table("versions") as versions:
        versions.alter_column("state", server_default=None)
    identity = op.create_table(
        "identity", sa.Column("id", sa.String(), nullable=False), sa.PrimaryKeyConstraint("id", name="pk_identity")
    )
    op.bulk_insert(identity, [{"id": secrets.token_hex(16)}])


def downgrade() -> None:
    """Undo it: retired versions become ready again, and tombstones are dropped; the next start removes their files."""
    op.execute("DELETE FROM versions WHERE state = 'deleted'")
    with op.batch_alter_table("versions") as versions:
        versions.drop_constraint("fk_versions_digest_artifacts", type_="foreignkey")
        versions.drop_column("state")
    op.drop_table("artifacts")
    op.drop_table("identity")
