"""Names for what a full cache block holds: a keyed hash of its tokens, all tokens before them, and whose they are.

Keys and values depend on the adapter, so its digest is in the hash. The tenant is in it too: with one tenant's prefixes
out of another's reach, the time to a first token tells nobody what others have asked. The hash is keyed with a secret
of this process, so nobody can prepare two texts whose names are equal.
"""

import secrets
from collections.abc import Sequence as Seq
from hashlib import blake2b

KEY_BYTES = 16


class BlockKeys:
    """The keys of one sequence's full blocks, made as its tokens come to fill them."""

    def __init__(self, secret: bytes, block_size: int, tenant: str, digest: str | None) -> None:
        self.digest = digest
        self._secret = secret
        self._block_size = block_size
        self._root = self._hash(repr((tenant, digest)).encode())
        self._keys: list[bytes] = []

    def _hash(self, data: bytes) -> bytes:
        return blake2b(data, digest_size=KEY_BYTES, key=self._secret).digest()

    def at_least(self, count: int, tokens: Seq[int]) -> list[bytes]:
        """Return the keys of the first `count` blocks or more of a sequence with these tokens, which fill so many."""
        keys, size = self._keys, self._block_size
        while len(keys) < count:
            start = len(keys) * size
            before = keys[-1] if keys else self._root
            keys.append(self._hash(before + repr(tuple(tokens[start : start + size])).encode()))
        return keys

    def check_integrity(self, tenant: str, digest: str | None, tokens: Seq[int]) -> None:
        """Check that the keys made so far are those of a sequence of this tenant, adapter and tokens.

        Raises:
            RuntimeError: they are not.
        """
        anew = BlockKeys(self._secret, self._block_size, tenant, digest)
        full = len(self._keys) * self._block_size <= len(tokens)
        if not full or self.digest != digest or anew.at_least(len(self._keys), tokens) != self._keys:
            raise RuntimeError("the keys of a sequence's cache blocks are not those of its tokens")


class KeyMaker:
    """Makes `BlockKeys` that are comparable with each other and with no other process's."""

    def __init__(self, block_size: int) -> None:
        self._block_size = block_size
        self._secret = secrets.token_bytes(32)

    def keys_of(self, tenant: str, digest: str | None) -> BlockKeys:
        """Return the keys of a new sequence, with the adapter of this digest or (None) the base alone."""
        return BlockKeys(self._secret, self._block_size, tenant, digest)
