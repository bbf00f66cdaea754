"""The digest that identifies an artifact: the sha256 of its bytes. Knows nothing about what is in the file."""

import hashlib
from pathlib import Path

PREFIX = "sha256:"


def digest_bytes(data: bytes) -> str:
    """Return `sha256:<64 hex digits>` of bytes."""
    return PREFIX + hashlib.sha256(data).hexdigest()


def digest_file(path: Path) -> str:
    """Return `sha256:<64 hex digits>` of a file's bytes, read in chunks."""
    with path.open("rb") as file:
        return PREFIX + hashlib.file_digest(file, "sha256").hexdigest()
