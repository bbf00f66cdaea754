"""Where converted bases are kept, and under which name.

Owns the cache's location and keys. The environment is read when a base is resolved, never at import.
"""

import hashlib
import os
from pathlib import Path

from headmix_adapters.base.blocks import sample_blocks

# Increment when the converter's output for the same input changes.
CONVERSION = 2
KEY_BLOCKS = 256


def default_cache_dir() -> Path:
    """Return HEADMIX_CACHE/bases, else XDG_CACHE_HOME/headmix/bases, else ~/.cache/headmix/bases."""
    if own := os.environ.get("HEADMIX_CACHE"):
        return Path(own).expanduser() / "bases"
    shared = os.environ.get("XDG_CACHE_HOME")
    return (Path(shared) if shared else Path.home() / ".cache") / "headmix" / "bases"


def cache_key(gguf: Path) -> str:
    """Return the folder name for a GGUF file's conversion: its stem, a hash of samples, the converter's version."""
    size = gguf.stat().st_size
    digest = hashlib.sha256(f"{CONVERSION}\0{size}\0".encode())
    with gguf.open("rb") as file:
        for block in sample_blocks(file, 0, size, KEY_BLOCKS):
            digest.update(block)
    return f"{gguf.stem}-{digest.hexdigest()[:16]}"
