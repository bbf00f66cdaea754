"""Opens catalog and store together, in the configured folder or bucket, and repairs what a crash left inconsistent."""

from collections.abc import Callable

from sqlalchemy import Engine

from headmix_adapters.base import ResolvedBase
from headmix_server.api.uploads.receiving import MIB
from headmix_server.app.errors import SettingError
from headmix_server.app.storage.base_record import bind_base
from headmix_server.app.storage.data_folder import DataFolder
from headmix_server.catalog.bytes.bucket import BucketUnusable, open_bucket
from headmix_server.catalog.bytes.bucket_store import BucketStore
from headmix_server.catalog.bytes.holds import Holds
from headmix_server.catalog.bytes.store import ArtifactStore, Store
from headmix_server.catalog.catalog import Catalog
from headmix_server.catalog.library import Library
from headmix_server.core.observability.logging import get_logger
from headmix_server.core.settings.settings import Settings


def open_library(
    settings: Settings,
    database: Engine,
    folder: DataFolder,
    base: ResolvedBase,
    *,
    on_freed: Callable[[str], None],
    on_bucket_failure: Callable[[], None],
) -> Library:
    """Return the library, ready for requests.

    `on_freed` is called with each digest that is gone for good, `on_bucket_failure` when the bucket is unreachable.

    Raises:
        SettingError: the bucket cannot be used.
        StartError: the catalog belongs to another base.
        OSError: the data folder cannot be used.
    """
    catalog, holds = Catalog(database, reserved={base.name}), Holds()
    bind_base(folder.base_record, base, catalog)
    try:
        store = _store(settings, folder, catalog, holds, on_bucket_failure)
        library = Library(catalog, store, base=base.shape.fingerprint, holds=holds, on_freed=on_freed)
        collected = library.start()
    except BucketUnusable as error:
        raise SettingError("artifacts", error) from error
    log = get_logger("app")
    if collected.removed:
        log.info("removed leftovers of an unclean end", files=len(collected.removed))
    for digest in collected.missing:
        log.error("an artifact's file is missing: upload it again", digest=digest)
    return library


def _store(
    settings: Settings, folder: DataFolder, catalog: Catalog, holds: Holds, on_failure: Callable[[], None]
) -> Store:
    if settings.artifacts is None:
        return ArtifactStore(folder.artifacts)
    return BucketStore(
        open_bucket(settings.artifacts.get_secret_value(), on_failure=on_failure),
        folder.artifact_cache,
        owner=catalog.identity(),
        cache_bytes=settings.artifact_cache_mib * MIB,
        is_held=holds.is_held,
    )
