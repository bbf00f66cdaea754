"""The alphabet in which byte-level tokenizers write bytes: printable ones as themselves, the others from U+0100 on."""

from collections.abc import Mapping
from types import MappingProxyType


def _byte_of_character() -> Mapping[str, int]:
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    shown = {chr(byte): byte for byte in printable}
    shown.update({chr(0x100 + place): byte for place, byte in enumerate(others)})
    return MappingProxyType(shown)


BYTES = _byte_of_character()
CHARACTERS = tuple(sorted(BYTES, key=BYTES.__getitem__))
"""The character for each byte."""
