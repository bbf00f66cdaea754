"""The text of a key: `hm_` and 32 random bytes in base64url, the hash that is stored of it, and how they are compared.

The text has 256 random bits, so a slow hash would add nothing.
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
    """Return the text of a new random key."""
    return f"hm_{secrets.token_urlsafe(32)}"


def is_key(text: str) -> bool:
    """Return whether the text has the form of a key."""
    return _KEY.fullmatch(text) is not None


def hash_key(text: str) -> bytes:
    """Return the 32 bytes that are stored instead of the text."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def key_prefix(text: str) -> str:
    """Return the first characters, which are used to find the key and to show it."""
    return text[:_PREFIX_LENGTH]


def matching(text: str, hashes: Iterable[bytes]) -> int | None:
    """Return the index of the text's hash, or None. Every comparison takes the same time, and at least one is made."""
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
