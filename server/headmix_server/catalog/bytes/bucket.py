"""A bucket on S3, GCS or Azure, accessed through obstore: artifacts below one prefix, and the catalog that owns them.

    <prefix>/owner                                      the identity of the catalog the bucket's artifacts belong to
    <prefix>/sha256/ab/<64 hex digits>.safetensors      a complete artifact, put there by one atomic operation
    <prefix>/files/sha256/ab/<64 hex digits>            the bytes of files of tenants, put there the same way

Owns obstore's options and the meaning of its errors. Credentials come from the environment variables that each
provider's own tools read; neither they nor a URL's query is ever shown or logged.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    GenericError,
    PermissionDeniedError,
    UnauthenticatedError,
    UnknownConfigurationKeyError,
)
from obstore.store import AzureStore, GCSStore, S3Store, from_url

from headmix_server.catalog.bytes.bucket_url import TAKES, BucketUrl, BucketUrlError, read_bucket_url
from headmix_server.catalog.bytes.store import SUFFIX, digest_at, place_of
from headmix_server.core.circuit_breaker import CircuitBreaker
from headmix_server.core.errors import ArtifactDamaged, StorageUnavailable
from headmix_server.core.observability.logging import get_logger

if TYPE_CHECKING:  # obstore provides it only to type checkers
    from obstore import GetResult

T = TypeVar("T")

OPTIONS = "the query takes options such as endpoint, region or allow_http, by obstore's names"
AWAY_SECONDS = 1.0
"""How long an unreachable bucket is not tried again: an attempt may take many seconds to fail."""
STALL_SECONDS = 10.0
"""A download that receives nothing for this long has failed: it keeps its slot from others."""
ARTIFACTS = "sha256"
"""The folder of artifacts below the prefix."""
_OWNER = "owner"
_PART_BYTES = 8 << 20
_PARTS_AT_ONCE = 4
_BLOCK_BYTES = 256 << 10
_QUERY = re.compile(r"\?\S*")  # an Azure signature, or other secrets of a provider


class BucketUnusable(Exception):
    """The bucket cannot serve as this server's store; the message gives the reason and the remedy."""


class Bucket:
    """The artifacts below a prefix. Methods other than `get` block; safe to use from many threads.

    `shown` is its name in messages. A download that receives nothing for `stall_seconds` has failed. Objects are in
    `folder` below the prefix, with names that end in `suffix`.
    """

    def __init__(
        self,
        store: S3Store | GCSStore | AzureStore,
        shown: str,
        breaker: CircuitBreaker,
        stall_seconds: float = STALL_SECONDS,
        *,
        folder: str = ARTIFACTS,
        suffix: str = SUFFIX,
    ) -> None:
        self._store = store
        self._breaker = breaker
        self._stall_seconds = stall_seconds
        self._folder = folder
        self._suffix = suffix
        self._log = get_logger("bucket")
        self.shown = shown

    def claim(self, owner: str) -> None:
        """Claim the prefix for this catalog, unless it is another's; objects it does not know may then be removed.

        Raises:
            BucketUnusable: the prefix belongs to another catalog, or the bucket does not exist or denies access.
            StorageUnavailable: the bucket cannot be reached.
        """
        try:
            with self._told_plainly(AlreadyExistsError, PermissionDeniedError, UnauthenticatedError):
                obstore.put(self._store, _OWNER, owner.encode(), mode="create")
        except AlreadyExistsError:
            with self._told_plainly():
                found = bytes(obstore.get(self._store, _OWNER).bytes()).decode(errors="replace")
            if found != owner:
                raise BucketUnusable(
                    f"names {self.shown}, which holds the artifacts of another headmix database: choose another "
                    f"prefix, or, if that database no longer exists, remove the object {_OWNER!r} there"
                ) from None
        except FileNotFoundError as error:
            raise BucketUnusable(f"names {self.shown}, and there is no bucket of that name") from error
        except (PermissionDeniedError, UnauthenticatedError):
            raise BucketUnusable(f"names {self.shown}, which this environment's credentials may not write") from None

    def put(self, digest: str, file: Path) -> None:
        """Store a file's bytes, in parts if there are many; the object appears completely or not at all.

        Raises:
            StorageUnavailable: the bucket cannot be reached.
        """
        with self._told_plainly(), file.open("rb") as content:
            obstore.put(self._store, self._key(digest), content, chunk_size=_PART_BYTES, max_concurrency=_PARTS_AT_ONCE)

    async def get(self, digest: str) -> tuple[int, AsyncGenerator[bytes, None]]:
        """Return an object's size and its bytes in blocks; reading these may raise StorageUnavailable as well.

        Nothing continues in the background when the caller is cancelled.

        Raises:
            ArtifactDamaged: there is no such object.
            StorageUnavailable: the bucket cannot be reached, or was silent for too long.
        """
        try:
            with self._told_plainly():
                found = await self._prompt(obstore.get_async(self._store, self._key(digest)))
        except FileNotFoundError as error:
            raise ArtifactDamaged(f"The bytes of {digest} are missing in the artifact store.") from error
        return found.meta["size"], self._blocks(found)

    async def _blocks(self, found: "GetResult") -> AsyncGenerator[bytes, None]:
        with self._told_plainly():
            blocks = aiter(found.stream(min_chunk_size=_BLOCK_BYTES))
            with suppress(StopAsyncIteration):
                while True:
                    yield await self._prompt(anext(blocks))

    async def _prompt(self, answer: Awaitable[T]) -> T:
        """Wait for a response of the bucket.

        Raises:
            GenericError: it did not come in time.
        """
        try:
            async with asyncio.timeout(self._stall_seconds):
                return await answer
        except TimeoutError:
            raise GenericError(f"it has sent nothing of a download for {self._stall_seconds:g} s") from None

    def delete(self, digest: str) -> None:
        """Remove an object if it exists.

        Raises:
            StorageUnavailable: the bucket cannot be reached.
        """
        try:
            with self._told_plainly():
                obstore.delete(self._store, self._key(digest))
        except FileNotFoundError:
            return

    def digests(self) -> Iterator[tuple[str, datetime]]:
        """Yield the digest of each artifact in the bucket and its modification time; other objects are ignored.

        Raises:
            StorageUnavailable: the bucket cannot be reached.
        """
        with self._told_plainly():
            for page in obstore.list(self._store, self._folder):
                for entry in page:
                    digest = digest_at(entry["path"].removeprefix(f"{self._folder}/"), self._suffix)
                    if digest is not None:
                        yield digest, entry["last_modified"]

    def _key(self, digest: str) -> str:
        return f"{self._folder}/{place_of(digest, self._suffix)}"

    @contextmanager
    def _told_plainly(self, *known: type[BaseError]) -> Iterator[None]:
        """Turn obstore's errors into StorageUnavailable; `known` ones and that of a missing object pass."""
        if not self._breaker.allows():
            raise _unavailable()
        answers: tuple[type[Exception], ...] = (FileNotFoundError, *known)
        try:
            yield
        except answers:
            self._reached()
            raise
        except BaseError as error:
            if isinstance(error, GenericError):  # the others are responses, which may concern a single object
                self._breaker.failed()
            reason = _QUERY.sub("", str(error).splitlines()[0])
            self._log.error("the artifact store failed", store=self.shown, reason=f"{type(error).__name__}: {reason}")
            raise _unavailable() from None
        else:
            self._reached()

    def _reached(self) -> None:
        if self._breaker.succeeded():
            self._log.info("the artifact store is reachable again", store=self.shown)


def _unavailable() -> StorageUnavailable:
    return StorageUnavailable("The artifact store cannot be reached; only adapters already on this machine are served.")


def open_bucket(
    url: str,
    *,
    on_failure: Callable[[], None] = lambda: None,
    stall_seconds: float = STALL_SECONDS,
    folder: str = ARTIFACTS,
    suffix: str = SUFFIX,
) -> Bucket:
    """Return the bucket of a URL such as `s3://bucket/prefix?region=eu-central-1`, without contacting it yet.

    The query contains obstore's options for this kind of bucket, such as `endpoint`; others come from the environment.
    `on_failure` is called, in any thread, whenever the bucket cannot be reached; the rest is as in `Bucket`.

    Raises:
        BucketUnusable: it is not the URL of a bucket, or an option is invalid.
    """
    try:
        address = read_bucket_url(url)
        store = _open(address, address.options)
    except BucketUrlError as error:
        raise BucketUnusable(str(error)) from None
    except UnknownConfigurationKeyError as error:
        name = str(error).partition("'")[2].partition("'")[0]
        raise BucketUnusable(f"has the option {name!r}, which this kind of bucket does not know; {OPTIONS}") from None
    except (BaseError, ValueError) as error:
        raise BucketUnusable(_explained(address, _first_line(error))) from None
    if not isinstance(store, S3Store | GCSStore | AzureStore):
        raise BucketUnusable(f"is not the URL of a bucket; {TAKES}")
    breaker = CircuitBreaker(AWAY_SECONDS, on_failure=on_failure)
    return Bucket(store, address.shown, breaker, stall_seconds, folder=folder, suffix=suffix)


def _open(address: BucketUrl, options: Mapping[str, str]) -> object:
    client = {
        "allow_http": True,  # for endpoints with http://, for example in a private network; the default is https
        "connect_timeout": timedelta(seconds=5),
        "read_timeout": timedelta(seconds=30),
        "timeout": timedelta(minutes=10),
        **address.client_options,
    }
    retry = {
        "max_retries": 2,
        "retry_timeout": timedelta(seconds=20),
        "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=2), "base": 2},
    }
    make: Callable[..., object] = from_url  # obstore checks names and values, not the type checker
    return make(address.address, config=dict(options) or None, client_options=client, retry_config=retry)


def _explained(address: BucketUrl, reason: str) -> str:
    """Return obstore's message, with the option it is about but without that option's value."""
    if "Account must be specified" in reason:
        return "names no account of Azure: add ?account_name=NAME, or set AZURE_STORAGE_ACCOUNT_NAME"
    for name, value in {**address.options, **address.client_options}.items():
        alone = replace(address, client_options={name: value} if name in address.client_options else {})
        try:
            _open(alone, {name: value} if name in address.options else {})
        except (BaseError, ValueError) as error:
            if _first_line(error) == reason:
                shown = reason.replace(f'"{value}"', "it").replace(value, "it")
                return f"has an invalid value for the option {name!r}: {shown}"
    return f"cannot be used as the artifact store: {reason}; {TAKES}"


def _first_line(error: Exception) -> str:
    """Return obstore's own message; the lines after it show its internal structures."""
    return str(error).splitlines()[0].removeprefix("Generic Config error: ").rstrip(".")
