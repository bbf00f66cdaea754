"""Limits how many invalid keys may come from one address: looking each one up costs a read of the database.

Recently valid keys pass from any address, so that guesses from behind a proxy or a shared address lock out no known
client.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address
from math import ceil

from headmix_server.tenancy.keys.key_text import hash_key

KNOWN_SECONDS = 600.0
_MOST_REMEMBERED = 10_000


class FailedKeys:
    """Invalid keys by address; used on one event loop. `clock` is monotonic, in seconds."""

    def __init__(self, per_minute: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_minute = per_minute
        self._clock = clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()  # guesses left, and the time of that value
        self._known: OrderedDict[bytes, float] = OrderedDict()

    def wait(self, address: str, key: str) -> int:
        """Return the seconds until a key from this address is looked up again; 0 means now."""
        if not self._per_minute or self._is_known(key):
            return 0
        left = self._left_of(network_of(address))
        return 0 if left >= 1 else ceil((1 - left) * 60 / self._per_minute)

    def failed(self, address: str) -> None:
        """Record an invalid key."""
        if self._per_minute:
            network = network_of(address)
            self._left[network] = (self._left_of(network) - 1, self._clock())
            self._left.move_to_end(network)
            _forget_oldest(self._left)

    def succeeded(self, key: str) -> None:
        """Record a valid key."""
        if self._per_minute:
            digest = hash_key(key)
            self._known[digest] = self._clock()
            self._known.move_to_end(digest)
            _forget_oldest(self._known)

    def _is_known(self, key: str) -> bool:
        at = self._known.get(hash_key(key))
        return at is not None and self._clock() < at + KNOWN_SECONDS

    def _left_of(self, network: str) -> float:
        left, at = self._left.get(network, (float(self._per_minute), 0.0))
        return min(float(self._per_minute), left + (self._clock() - at) * self._per_minute / 60)


def network_of(address: str) -> str:
    """Return the network that counts as one address: for IPv6 the first 64 bits, since a host usually has all of it."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if not isinstance(parsed, IPv6Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(IPv6Address(int(parsed) >> 64 << 64))


def _forget_oldest(remembered: "OrderedDict[str, tuple[float, float]] | OrderedDict[bytes, float]") -> None:
    if len(remembered) > _MOST_REMEMBERED:
        remembered.popitem(last=False)
