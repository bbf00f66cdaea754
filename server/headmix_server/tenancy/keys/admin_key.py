"""The file `<data-dir>/admin.key`: written completely or not at all, and readable only by its owner."""

import os
import secrets
from pathlib import Path

FILE_NAME = "admin.key"


def read_admin_key(data_dir: Path) -> str | None:
    """Return the file's text without the line break, or None if there is no file."""
    try:
        return (data_dir / FILE_NAME).read_text(encoding="ascii", errors="replace").strip()
    except FileNotFoundError:
        return None


def write_admin_key(data_dir: Path, plaintext: str) -> None:
    """Write the file with mode 0600, synced to disk on return; a crash leaves either the old file or the new one."""
    draft = data_dir / f".{FILE_NAME}.{secrets.token_hex(8)}"
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "w", encoding="ascii") as file:
            # The umask can remove bits from the requested mode, and the owner must be able to read the key.
            os.fchmod(file.fileno(), 0o600)
            file.write(f"{plaintext}\n")
            file.flush()
            os.fsync(file.fileno())
        draft.replace(data_dir / FILE_NAME)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    folder = os.open(data_dir, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
