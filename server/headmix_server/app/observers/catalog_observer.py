"""The consequences of changes in the catalog: pins are updated, and metrics of deleted adapters are removed.

All of them are here; code that changes the catalog does not know them.
"""

from typing import assert_never

from headmix_server.catalog.changes import Change
from headmix_server.core.observability.metrics import Metrics
from headmix_server.services.pinning import Pinning


class CatalogObserver:
    """Called with each change, in any thread."""

    def __init__(self, metrics: Metrics, pinning: Pinning) -> None:
        self._metrics = metrics
        self._pinning = pinning

    def __call__(self, tenant: str, name: str, change: Change) -> None:
        """Handle one change."""
        match change:
            case Change.DELETED:
                self._metrics.adapter_deleted(tenant, name)
                self._pinning.catalog_changed()
            case Change.CANARY_STARTED:
                self._metrics.canary_started(tenant, name)
            case (
                Change.PUBLISHED
                | Change.ROLLED_BACK
                | Change.CANARY_PROMOTED
                | Change.VERSION_RETIRED
                | Change.UNPINNED
            ):
                self._pinning.catalog_changed()
            case Change.PINNED:
                pass  # done by `Pinning.pin`, which has already loaded the adapter
            case (
                Change.VERSION_READY
                | Change.VERSION_DELETED
                | Change.CANARY_RESIZED
                | Change.CANARY_ENDED
                | Change.SHARED
            ):
                pass  # neither the current version nor the pins have changed
            case _:
                assert_never(change)
