"""Keys of full cache blocks: a keyed hash of the block's tokens, all tokens before them, the tenant and the adapter.

Keys and values depend on the adapter, so the hash includes its digest. It also includes the tenant: no tenant can hit
another tenant's prefixes, so the time to first token reveals nothing about what others have asked. The hash is keyed
with a secret of this process, so nobody can construct two texts whose keys collide.
"""

import secrets
from collections.abc import Sequence as Seq
from hashlib import blake2b

KEY_BYTES = 16


class BlockKeys:
    """The keys of one sequence's full blocks, computed as its tokens fill them."""

    def __init__(self, secret: bytes, block_size: int, tenant: str, digest: str | None) -> None:
        self.digest = digest
        self._secret = secret
        self._block_size = block_size
        self._root = self._hash(repr((tenant, digest)).encode())
        self._keys: list[bytes] = []

    def _hash(self, data: bytes) -> bytes:
        return blake2b(data, digest_size=KEY_BYTES, key=self._secret).digest()

    def at_least(self, count: int, tokens: Seq[int]) -> list[bytes]:
        """Return the keys of at least the first `count` blocks of a sequence; its tokens must fill that many."""
        keys, size = self._keys, self._block_size
        while len(keys) < count:
            start = len(keys) * size
            before = keys[-1] if keys else self._root
            keys.append(self._hash(before + repr(tuple(tokens[start : start + size])).encode()))
        return keys

    def check_integrity(self, tenant: str, digest: str | None, tokens: Seq[int]) -> None:
        """Check that the keys computed so far match this tenant, adapter and tokens.

        Raises:
            RuntimeError: they do not.
        """
        anew = BlockKeys(self._secret, self._block_size, tenant, digest)
        full = len(self._keys) * self._block_size <= len(tokens)
        if not full or self.digest != digest or anew.at_least(len(self._keys), tokens) != self._keys:
            raise RuntimeError("the keys of a sequence's cache blocks are not those of its tokens")


class KeyMaker:
    """Makes `BlockKeys` that are comparable with each other, but not with those of another process."""

    def __init__(self, block_size: int) -> None:
        self._block_size = block_size
        self._secret = secrets.token_bytes(32)

    def keys_of(self, tenant: str, digest: str | None) -> BlockKeys:
        """Return the keys of a new sequence that uses the adapter with this digest, or (None) the base alone."""
        return BlockKeys(self._secret, self._block_size, tenant, digest)
