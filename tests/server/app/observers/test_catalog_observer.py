"""After a change to the catalog, pins are reconciled and the metrics of deleted adapters are removed."""

from pathlib import Path
from typing import cast

import pytest

from headmix_server.api import routes
from headmix_server.app.observers.catalog_observer import CatalogObserver
from headmix_server.catalog.changes import Change
from headmix_server.core.observability.metrics import Metrics
from headmix_server.services.pinning import Pinning

CURRENT_OR_PINS = {
    Change.PUBLISHED,
    Change.ROLLED_BACK,
    Change.DELETED,
    Change.VERSION_RETIRED,
    Change.CANARY_PROMOTED,
    Change.UNPINNED,
}


class Witness:
    """Stands in for pinning and metrics, and records their calls."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, ...]] = []

    def catalog_changed(self) -> None:
        self.calls.append(("pins",))

    def adapter_deleted(self, *of: str) -> None:
        self.calls.append(("deleted", *of))

    def canary_started(self, *of: str) -> None:
        self.calls.append(("canary", *of))


@pytest.mark.parametrize("change", Change)
def test_each_change_has_its_consequences(change: Change) -> None:
    witness = Witness()
    CatalogObserver(cast("Metrics", witness), cast("Pinning", witness))("acme", "tone", change)
    assert (("pins",) in witness.calls) == (change in CURRENT_OR_PINS)
    assert (("deleted", "acme", "tone") in witness.calls) == (change is Change.DELETED)
    assert (("canary", "acme", "tone") in witness.calls) == (change is Change.CANARY_STARTED)


def test_routes_leave_the_consequences_to_the_observer() -> None:
    sources = [path.read_text() for path in Path(routes.__file__).parent.glob("*.py")]
    assert not [
        word
        for word in ("reconcile", "catalog_changed", "adapter_deleted", "canary_started")
        for text in sources
        if word in text
    ]
