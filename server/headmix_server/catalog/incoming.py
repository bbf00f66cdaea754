"""Uploads in progress: how many there are, and each tenant's bytes on this machine besides those it stores.

Owns the count in memory, so that bytes count against the tenant's quota as they arrive, before they are stored. The
final check is made in the transaction that stores them (`quota`).
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from headmix_server.catalog.quota import Quota, Room, Stored, bytes_exceeded
from headmix_server.core.errors import RateLimitExceeded, ServerOverloaded

RETRY_SECONDS = 1

ReadRoom = Callable[[], Room]
"""Reads from the database how much the tenant stores now."""


@dataclass(slots=True, eq=False)
class _Tenant:
    """A tenant's uploads in progress, oldest first, their bytes, and the bytes it stores; None must be read anew."""

    uploads: list["IncomingUpload"] = field(default_factory=list)
    arrived: int = 0
    stored: Stored | None = None


class IncomingUpload:
    """One upload in progress. Call `grow` before bytes reach the disk, and `shrink` once they are removed from it."""

    def __init__(self, incoming: "Incoming", tenant: _Tenant, quota: Quota, read_room: ReadRoom) -> None:
        self._incoming = incoming
        self._tenant = tenant
        self._quota = quota
        self._read_room = read_room
        self._repeatable = 0
        self.arrived = 0
        self.is_receiving = True
        """Whether it is still waiting for bytes from the client."""
        self.is_displaced = False

    def grow(self, size: int) -> None:
        """Count bytes that are about to be written.

        Raises:
            RateLimitExceeded: the tenant would exceed its quota; the bytes are not counted.
            ServerOverloaded: the upload was displaced by another tenant's.
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
        """Check against what is stored now: adapters may have been deleted or stored since it was last read."""
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
        retry_after = RETRY_SECONDS if asked <= self._limit(room.stored) else None  # it would fit without the others
        raise bytes_exceeded(self._quota, room.stored, asked, arriving=others, retry_after=retry_after)

    def _fits(self, stored: Stored) -> bool:
        return self._tenant.arrived <= self._limit(stored)

    def _limit(self, stored: Stored) -> int:
        return max(0, self._quota.stored_bytes - stored.size_bytes) + self._repeatable

    def shrink(self) -> None:
        """Stop counting its bytes: they were removed, or stored."""
        with self._incoming.lock:
            self._count(-self.arrived)
            self._tenant.stored = None

    def received(self) -> None:
        """Record that all of the client's bytes have arrived: from now on it cannot be displaced."""
        with self._incoming.lock:
            self.is_receiving = False

    def _count(self, size: int) -> None:
        self.arrived += size
        self._tenant.arrived += size


class Incoming:
    """All uploads in progress: at most `most`, and `most_each` per tenant. Safe to use from many threads.

    If there are `most`, a tenant with fewer uploads displaces the newest one of the tenant with the most.
    """

    def __init__(self, most: int, most_each: int) -> None:
        self._most = most
        self._most_each = most_each
        self._tenants: dict[str, _Tenant] = {}
        self.lock = threading.Lock()

    @property
    def under_way(self) -> int:
        """The number of uploads."""
        with self.lock:
            return self._count()

    def uploads_of(self, tenant: str) -> int:
        """Return the number of a tenant's uploads."""
        with self.lock:
            return len(self._tenants[tenant].uploads) if tenant in self._tenants else 0

    def arrived(self, tenant: str) -> int:
        """Return the bytes of a tenant's uploads in progress."""
        with self.lock:
            return self._tenants[tenant].arrived if tenant in self._tenants else 0

    @contextmanager
    def upload(self, tenant: str, quota: Quota, read_room: ReadRoom) -> Iterator[IncomingUpload]:
        """Yield an upload for the block, by whose end its bytes must be removed or stored.

        Raises:
            RateLimitExceeded: the tenant already has the maximum number of uploads in progress.
            ServerOverloaded: there are `most` uploads in total, and none may be displaced for this one.
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
