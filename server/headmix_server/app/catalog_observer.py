"""What follows from a change of the catalog: pins that move, and metrics of what is gone.

The only place that says so; code that changes the catalog knows nothing of it.
"""

from typing import assert_never

from headmix_server.catalog.changes import Change
from headmix_server.core.observability.metrics import Metrics
from headmix_server.services.pinning import Pinning


class CatalogObserver:
    """Told of each change, in any thread."""

    def __init__(self, metrics: Metrics, pinning: Pinning) -> None:
        self._metrics = metrics
        self._pinning = pinning

    def __call__(self, tenant: str, name: str, change: Change) -> None:
        """Take in one change."""
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
                pass  # by `Pinning.pin`, which has the adapter on the device already
            case (
                Change.VERSION_READY
                | Change.VERSION_DELETED
                | Change.CANARY_RESIZED
                | Change.CANARY_ENDED
                | Change.SHARED
            ):
                pass  # neither what is current nor what is pinned has changed
            case _:
                assert_never(change)
