"""Moves the parts of headers meant only for people to their own table, so that what requests read becomes small."""

import re
from collections.abc import Iterator

import msgspec
import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

MOST_BYTES = 64 * 1024
MOST_DEPTH = 16
"""Larger or deeper `training`, as accepted before these bounds, remains in the file and is not shown."""

_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_OF_DIGEST = sa.text("SELECT config FROM versions WHERE digest = :digest LIMIT 1")
_INSERT = sa.text(
    "INSERT INTO descriptions (digest, examples, training, created_by) "
    "VALUES (:digest, :examples, :training, :created_by)"
)
_UPDATE = sa.text("UPDATE versions SET config = :config, config_bytes = :size WHERE digest = :digest")


def upgrade() -> None:
    """Split each header; only one at a time is in memory."""
    op.create_table(
        "descriptions",
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("examples", sa.String(), nullable=False),
        sa.Column("training", sa.String(), nullable=True),
        sa.Column("created_by", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["digest"], ["artifacts.digest"], name="fk_descriptions_digest_artifacts"),
        sa.PrimaryKeyConstraint("digest", name="pk_descriptions"),
    )
    op.add_column("versions", sa.Column("config_bytes", sa.BigInteger(), nullable=False, server_default="0"))
    connection = op.get_bind()
    for digest, config in _headers():
        fields = _FIELDS.decode(config)
        examples = bytes(fields.pop("examples", msgspec.Raw(b"[]")))
        training = bytes(fields.pop("training", msgspec.Raw(b"{}")))
        created_by = msgspec.json.decode(bytes(fields.pop("created_by", msgspec.Raw(b'""'))), type=str)
        row = {"digest": digest, "examples": examples.decode(), "created_by": created_by}
        connection.execute(_INSERT, row | {"training": training.decode() if _is_shown(training) else None})
        small = _joined(fields, training="{}", created_by="")
        connection.execute(_UPDATE, {"digest": digest, "config": small.decode(), "size": len(small)})


def downgrade() -> None:
    """Join each header again; a `training` that was too large to be stored becomes empty."""
    connection = op.get_bind()
    read = sa.text("SELECT examples, training, created_by FROM descriptions WHERE digest = :digest")
    for digest, config in _headers():
        examples, training, created_by = connection.execute(read, {"digest": digest}).one()
        fields = _FIELDS.decode(config) | ({"examples": msgspec.Raw(examples.encode())} if examples != "[]" else {})
        whole = _joined(fields, training=training or "{}", created_by=created_by)
        connection.execute(_UPDATE, {"digest": digest, "config": whole.decode(), "size": len(whole)})
    with op.batch_alter_table("versions") as versions:
        versions.drop_column("config_bytes")
    op.drop_table("descriptions")


def _headers() -> Iterator[tuple[str, str]]:
    """Yield each artifact's digest and header."""
    connection = op.get_bind()
    for digest in connection.execute(sa.text("SELECT DISTINCT digest FROM versions")).scalars().all():
        yield digest, connection.execute(_OF_DIGEST, {"digest": digest}).scalar_one()


def _joined(fields: dict[str, msgspec.Raw], *, training: str, created_by: str) -> bytes:
    more = {"training": msgspec.Raw(training.encode()), "created_by": msgspec.Raw(msgspec.json.encode(created_by))}
    return msgspec.json.encode(fields | more, order="sorted")


def _is_shown(training: bytes) -> bool:
    return len(training) <= MOST_BYTES and _depth(training) <= MOST_DEPTH


def _depth(text: bytes) -> int:
    """Return the nesting depth of JSON, without parsing it recursively."""
    depth = deepest = 0
    for part in re.finditer(rb'"(?:[^"\\]|\\.)*"|[\[{]|[\]}]', text):
        depth += {b"[": 1, b"{": 1, b"]": -1, b"}": -1}.get(part[0], 0)
        deepest = max(deepest, depth)
    return deepest
