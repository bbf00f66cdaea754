"""Joins the pieces of a large file, because package registries limit the size of one package.

Knows nothing about what the file contains.
"""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock

from headmix_adapters.artifact.durable import sync_path
from headmix_adapters.base.errors import BaseError

_BLOCK_BYTES = 1 << 20


def join_files(pieces: Sequence[Path], out: Path, sha256: str) -> Path:
    """Return `out`; if it does not exist, write it from the pieces, whole or not at all.

    Raises:
        BaseError: the pieces together do not have this digest.
        OSError: a file cannot be read or written.
    """
    if out.exists():
        return out
    out.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(out.with_name(f".{out.name}.lock")):
        if not out.exists():
            _join(pieces, out, sha256)
    return out


def _join(pieces: Sequence[Path], out: Path, sha256: str) -> None:
    temporary = out.with_name(f".{out.name}.tmp")
    digest = hashlib.sha256()
    try:
        with temporary.open("wb") as file:
            for piece in pieces:
                with piece.open("rb") as source:
                    while block := source.read(_BLOCK_BYTES):
                        digest.update(block)
                        file.write(block)
            file.flush()
            os.fsync(file.fileno())
        if digest.hexdigest() != sha256:
            raise BaseError(f"the pieces of {out.name} are not those of the file this release knows: install them anew")
        temporary.replace(out)
    finally:
        temporary.unlink(missing_ok=True)
    sync_path(out.parent)
