"""The text of a key: `hm_` and 32 random bytes in base64url, what is stored of it, and how it is compared.

The text has 256 bits of chance, so a slow hash would add nothing.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable

_KEY = re.compile(r"hm_[A-Za-z0-9_-]{43}")
_PREFIX_LENGTH = 11
_NO_HASH = bytes(32)


def draw_key() -> str:
    """Return the text of a key nobody has."""
    return f"hm_{secrets.token_urlsafe(32)}"


def is_key(text: str) -> bool:
    """Return whether the text has the form of a key."""
    return _KEY.fullmatch(text) is not None


def hash_key(text: str) -> bytes:
    """Return the 32 bytes that are stored in the text's place."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def key_prefix(text: str) -> str:
    """Return the first characters, by which a key is found and shown."""
    return text[:_PREFIX_LENGTH]


def matching(text: str, hashes: Iterable[bytes]) -> int | None:
    """Return the place of the text's hash, or None; every comparison takes the same time, and there is always one."""
    wanted = hash_key(text)
    found = None
    compared = False
    for place, stored in enumerate(hashes):
        compared = True
        if hmac.compare_digest(stored, wanted):
            found = place
    if not compared:
        hmac.compare_digest(_NO_HASH, wanted)
    return found
