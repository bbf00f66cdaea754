"""Uploads in progress: how many there are, and the bytes each tenant has on this machine next to those it stores.

Owns the count in memory, so that bytes which are not stored yet count against the tenant's quota as they arrive. What
is stored in the end is checked once more, in the transaction that stores it (`quota`).
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from headmix_server.catalog.quota import Quota, Room, bytes_exceeded
from headmix_server.core.errors import RateLimitExceeded, ServerOverloaded

RETRY_SECONDS = 1

ReadRoom = Callable[[], Room]
"""Asks the database how much the tenant stores now."""


@dataclass(slots=True, eq=False)
class _Tenant:
    """A tenant's uploads in progress, oldest first, their bytes, and the bytes it stores; None is to be read anew."""

    uploads: list["IncomingUpload"] = field(default_factory=list)
    arrived: int = 0
    stored: int | None = None


class IncomingUpload:
    """One upload in progress. `grow` before bytes reach the disk, `shrink` when they are gone from it."""

    def __init__(self, incoming: "Incoming", tenant: _Tenant, quota: Quota, read_room: ReadRoom) -> None:
        self._incoming = incoming
        self._tenant = tenant
        self._quota = quota
        self._read_room = read_room
        self._repeatable = 0
        self.arrived = 0
        self.is_receiving = True
        """Whether it still waits for its client's bytes."""
        self.is_displaced = False

    def grow(self, size: int) -> None:
        """Count bytes that are about to be written.

        Raises:
            RateLimitExceeded: the tenant would have more than its quota; they are not counted.
            ServerOverloaded: another tenant took this one's place.
        """
        with self._incoming.lock:
            if self.is_displaced:
                raise ServerOverloaded(
                    "Too many uploads are in progress, and this tenant has most of them; try again.",
                    retry_after=RETRY_SECONDS,
                )
            self._count(size)
            if not self._quota.stored_bytes or (self._tenant.stored is not None and self._fits(self._tenant.stored)):
                return
        self._check_stored(size)

    def _check_stored(self, size: int) -> None:
        """Judge the bytes by what is stored now: something may have been deleted, or stored, since that was read."""
        try:
            room = self._read_room()
        except BaseException:
            with self._incoming.lock:
                self._count(-size)
            raise
        with self._incoming.lock:
            self._tenant.stored, self._repeatable = room.stored, room.repeatable
            if self._fits(room.stored):
                return
            self._count(-size)
            others = self._tenant.arrived - self.arrived
        asked = self.arrived + size
        retry_after = RETRY_SECONDS if asked <= self._limit(room.stored) else None  # without the others it would fit
        raise bytes_exceeded(self._quota, room.stored, asked, arriving=others, retry_after=retry_after)

    def _fits(self, stored: int) -> bool:
        return self._tenant.arrived <= self._limit(stored)

    def _limit(self, stored: int) -> int:
        return max(0, self._quota.stored_bytes - stored) + self._repeatable

    def shrink(self) -> None:
        """Count no bytes any more: they are gone, or stored."""
        with self._incoming.lock:
            self._count(-self.arrived)
            self._tenant.stored = None

    def received(self) -> None:
        """Note that all the client's bytes are here: from now on nobody takes its place."""
        with self._incoming.lock:
            self.is_receiving = False

    def _count(self, size: int) -> None:
        self.arrived += size
        self._tenant.arrived += size


class Incoming:
    """All uploads in progress: at most `most`, and `most_each` per tenant. Safe to use from many threads.

    Where all places are taken, a tenant with fewer uploads takes the place of the newest of the tenant with most.
    """

    def __init__(self, most: int, most_each: int) -> None:
        self._most = most
        self._most_each = most_each
        self._tenants: dict[str, _Tenant] = {}
        self.lock = threading.Lock()

    @property
    def under_way(self) -> int:
        """How many there are."""
        with self.lock:
            return self._count()

    def uploads_of(self, tenant: str) -> int:
        """Return how many a tenant has."""
        with self.lock:
            return len(self._tenants[tenant].uploads) if tenant in self._tenants else 0

    def arrived(self, tenant: str) -> int:
        """Return the bytes of a tenant's uploads in progress."""
        with self.lock:
            return self._tenants[tenant].arrived if tenant in self._tenants else 0

    @contextmanager
    def upload(self, tenant: str, quota: Quota, read_room: ReadRoom) -> Iterator[IncomingUpload]:
        """Give a place for the block, at whose end its bytes are gone or stored.

        Raises:
            RateLimitExceeded: as many of the tenant's uploads are in progress as may.
            ServerOverloaded: as many of all tenants' are, and none has to give its place to this one.
        """
        upload = self._begin(tenant, quota, read_room)
        try:
            yield upload
        finally:
            upload.shrink()
            self._end(tenant, upload)

    def _begin(self, tenant: str, quota: Quota, read_room: ReadRoom) -> IncomingUpload:
        with self.lock:
            own = self._tenants.get(tenant) or _Tenant()
            if len(own.uploads) >= self._most_each:
                raise RateLimitExceeded(
                    f"{self._most_each} uploads of this tenant are in progress, the most allowed at once.",
                    limit="uploads",
                    param="file",
                    retry_after=RETRY_SECONDS,
                )
            if self._count() >= self._most:
                self._displace_for(own)
            self._tenants[tenant] = own
            own.uploads.append(upload := IncomingUpload(self, own, quota, read_room))
            return upload

    def _displace_for(self, own: _Tenant) -> None:
        def kept(of: _Tenant) -> list[IncomingUpload]:
            return [upload for upload in of.uploads if not upload.is_displaced]

        largest = max(self._tenants.values(), key=lambda other: len(kept(other)))
        receiving = [upload for upload in kept(largest) if upload.is_receiving]
        if len(kept(largest)) < len(own.uploads) + 2 or not receiving:
            raise ServerOverloaded("Too many uploads are in progress; try again.")
        receiving[-1].is_displaced = True

    def _end(self, tenant: str, upload: IncomingUpload) -> None:
        with self.lock:
            own = self._tenants[tenant]
            own.uploads.remove(upload)
            if not own.uploads:
                del self._tenants[tenant]

    def _count(self) -> int:
        return sum(not upload.is_displaced for own in self._tenants.values() for upload in own.uploads)
