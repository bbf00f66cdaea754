"""The models that a batch's lines name, resolved once: all lines of a batch use the same version of an adapter.

The versions' bytes are held while the batch runs, so a version that is deleted meanwhile serves it to the end.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from headmix_server.catalog.bytes.holds import Hold
from headmix_server.catalog.library import Library
from headmix_server.catalog.rollout.canary import draw_of
from headmix_server.catalog.version import AdapterVersion
from headmix_server.core.errors import ModelNotFound


class HeldModels:
    """One batch's models by the name its lines use. Methods block, except `version_of` and `release`.

    A canary is drawn once for the batch, by its id.
    """

    def __init__(self, library: Library, tenant: str, batch_id: str) -> None:
        self._library = library
        self._tenant = tenant
        self._batch_id = batch_id
        self._held: dict[str, _Held] = {}

    def hold(self, names: Iterable[str], chosen: Mapping[str, str]) -> Mapping[str, str]:
        """Hold the versions that the names mean, and return exact references to them.

        `chosen` are the references of an earlier run. Names that mean no adapter are left to each line.

        Raises:
            StorageUnavailable: the database cannot be read.
        """
        for name in names:
            try:
                draw = draw_of(self._batch_id, name)
                version, hold = self._library.hold(self._tenant, chosen.get(name, name), draw=draw)
            except ModelNotFound:
                continue
            self._held[name] = _Held(version, hold)
        found = {
            name: f"{one.version.called_by(self._tenant)}@{one.version.version}" for name, one in self._held.items()
        }
        return MappingProxyType({**chosen, **found})

    def version_of(self, name: str) -> AdapterVersion | None:
        """Return the version that a name means, or None if it was not resolved for the batch."""
        held = self._held.get(name)
        return None if held is None else held.version

    def release(self) -> None:
        """End all holds."""
        held, self._held = self._held, {}
        for one in held.values():
            one.hold.release()


class _Held(NamedTuple):
    version: AdapterVersion
    hold: Hold
