"""The models that a batch's lines name, resolved once: all lines of a batch use the same version of an adapter.

The versions' bytes are held while the batch runs, so a version that is deleted meanwhile serves it to the end. Holds do
not outlive the server: a version that the next one does not find has no substitute.
"""

from collections.abc import Mapping
from typing import NamedTuple

from headmix_server.catalog.bytes.holds import HeldUntilEnd
from headmix_server.catalog.library import Library
from headmix_server.catalog.queries import NO_DRAW, not_found
from headmix_server.catalog.rollout.canary import draw_of
from headmix_server.catalog.version import AdapterVersion
from headmix_server.core.errors import ModelNotFound

NONE = ""
"""What a name means that meant no adapter when the batch was resolved: none until its end."""


class HeldModels:
    """One batch's models by the name its lines use. Methods block, except `version_of` and `release`.

    A canary is drawn once for the batch, by its id.
    """

    def __init__(self, library: Library, tenant: str, batch_id: str) -> None:
        self._library = library
        self._tenant = tenant
        self._batch_id = batch_id
        self._held: dict[str, _Held] = {}
        self._holds = HeldUntilEnd()
        self._gone: dict[str, str] = {}

    def hold(self, meant: Mapping[str, str | None]) -> Mapping[str, str]:
        """Hold the versions that the names mean, and return exact references to them, or `NONE`.

        `meant` are the names, each with what an earlier call returned for it, or None at the first.

        Raises:
            StorageUnavailable: the database cannot be read; call it again later.
        """
        return {name: self._hold(name, reference) for name, reference in meant.items()}

    def _hold(self, name: str, reference: str | None) -> str:
        if (held := self._held.get(name)) is not None:
            return held.reference
        try:
            if reference == NONE:
                raise not_found(name)
            draw = draw_of(self._batch_id, name) if reference is None else NO_DRAW
            version, hold = self._library.hold(self._tenant, name if reference is None else reference, draw=draw)
        except ModelNotFound:
            self._gone[name] = reference or name
            return reference or NONE
        self._holds.add(hold)
        exact = f"{version.called_by(self._tenant)}@{version.version}"
        self._held[name] = _Held(exact, version)
        return exact

    def version_of(self, name: str) -> AdapterVersion | None:
        """Return the version that a name means, or None if it was not resolved for the batch.

        Raises:
            ModelNotFound: it meant none, or one that was deleted before this server could hold it.
        """
        if (gone := self._gone.get(name)) is not None:
            raise not_found(gone)
        held = self._held.get(name)
        return None if held is None else held.version

    def release(self) -> None:
        """End all holds, also those of a `hold` that has not returned yet."""
        self._holds.end()


class _Held(NamedTuple):
    reference: str
    version: AdapterVersion
