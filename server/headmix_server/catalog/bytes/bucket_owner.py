"""Whose bucket it is: a catalog claims its prefix before it changes anything there."""

from headmix_server.catalog.bytes.bucket import Bucket, BucketUnusable
from headmix_server.core.errors import StorageUnavailable
from headmix_server.core.observability.logging import get_logger


class BucketOwner:
    """The claim of the catalog with this identity on a bucket, made once."""

    def __init__(self, bucket: Bucket, identity: str) -> None:
        self._bucket = bucket
        self._identity = identity
        self._claimed = False

    def claim(self) -> None:
        """Claim the bucket, unless that was done.

        Raises:
            BucketUnusable, StorageUnavailable: as `Bucket.claim`.
        """
        if not self._claimed:
            self._bucket.claim(self._identity)
            self._claimed = True

    def require(self) -> None:
        """Refuse to change a bucket that was unreachable at startup and turns out to belong to another catalog.

        Raises:
            StorageUnavailable: it does, or it cannot be reached.
        """
        try:
            self.claim()
        except BucketUnusable as error:
            get_logger("artifacts").critical("the artifact store cannot be used", reason=str(error))
            raise StorageUnavailable("The artifact store cannot be used; the log says why.") from error
