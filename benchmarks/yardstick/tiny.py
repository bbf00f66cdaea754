"""Tiny random bases for the quick run: a generator and an encoder of a few thousand parameters."""

from pathlib import Path

from harness.bases.families import FAMILIES


def write_tiny_bases(folder: Path) -> tuple[str, str]:
    """Write both and return their folders: generator, encoder."""
    for family in ("llama", "bert"):
        FAMILIES[family].make(folder / family)
    return str(folder / "llama"), str(folder / "bert")
