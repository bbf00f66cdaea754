"""Keys of full cache blocks: a keyed hash of the block's tokens, all tokens before them, the tenant and the adapters.

Keys and values depend on the adapters, so the hash includes their digests and scales, whatever order they were named
in. It also includes the tenant: no tenant can hit another tenant's prefixes, so the time to first token reveals nothing
about what others have asked. The hash is keyed with a secret of this process, so nobody can construct two texts whose
keys collide.
"""

import secrets
from collections.abc import Sequence as Seq
from hashlib import blake2b

from headmix_server.core.combination import Combination

KEY_BYTES = 16


class BlockKeys:
    """The keys of one sequence's full blocks, computed as its tokens fill them."""

    def __init__(self, secret: bytes, block_size: int, tenant: str, combination: Combination) -> None:
        self.combination = combination
        self._secret = secret
        self._block_size = block_size
        self._root = self._hash(repr((tenant, combination)).encode())
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

    def check_integrity(self, tenant: str, combination: Combination, tokens: Seq[int]) -> None:
        """Check that the keys computed so far match this tenant, these adapters and tokens.

        Raises:
            RuntimeError: they do not.
        """
        anew = BlockKeys(self._secret, self._block_size, tenant, combination)
        full = len(self._keys) * self._block_size <= len(tokens)
        if not full or self.combination != combination or anew.at_least(len(self._keys), tokens) != self._keys:
            raise RuntimeError("the keys of a sequence's cache blocks are not those of its tokens")


class KeyMaker:
    """Makes `BlockKeys` that are comparable with each other, but not with those of another process."""

    def __init__(self, block_size: int) -> None:
        self._block_size = block_size
        self._secret = secrets.token_bytes(32)

    def keys_of(self, tenant: str, combination: Combination) -> BlockKeys:
        """Return the keys of a new sequence that uses these adapters."""
        return BlockKeys(self._secret, self._block_size, tenant, combination)
