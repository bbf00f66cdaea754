"""The catalog's values: the record of an artifact, and a version of an adapter.

They are immutable and only read the header they carry. They know no database and no file.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import msgspec

from headmix_adapters.config import AdapterConfig


class VersionState(StrEnum):
    """The states of a version: `ready` can be used, `retired` is kept but cannot be used, `deleted` is a tombstone."""

    READY = "ready"
    RETIRED = "retired"
    DELETED = "deleted"


@dataclass(frozen=True, slots=True)
class Canary:
    """A second version of a name, and the percentage of the name's requests it serves."""

    version: int
    percent: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterRecord:
    """A verified artifact, as `Catalog.publish` records it.

    `base` is the fingerprint of the base it was verified against; `size_bytes` is the file's size.
    """

    digest: str
    base: str
    size_bytes: int
    num_parameters: int
    config: AdapterConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterVersion:
    """One version of a tenant's adapter, as of when it was read. `created` is in Unix seconds.

    `canary` and `pinned` are the adapter's, the same for all its versions. `accepted_for` is the fingerprint of the
    base that it was verified against when it was uploaded. `config` is the header without its metadata, which
    `descriptions` holds, and `config_bytes` its size as JSON.
    """

    tenant: str
    name: str
    version: int
    digest: str
    accepted_for: str
    size_bytes: int
    num_parameters: int
    created: int
    current: bool
    config: AdapterConfig
    config_bytes: int
    state: VersionState = VersionState.READY
    canary: Canary | None = None
    pinned: bool = False

    @property
    def task(self) -> str:
        """`generation` or `classification`."""
        return self.config.task

    @property
    def method(self) -> str:
        """`kernel-mix` or `lora`."""
        return self.config.method

    @property
    def labels(self) -> tuple[str, ...]:
        """The classification head's labels in the order of its scores; empty for a generation adapter."""
        return self.config.classifier.labels if self.config.classifier is not None else ()

    @property
    def base_name(self) -> str:
        """The name of the base it was trained on, according to its header."""
        return self.config.base.name

    @property
    def sites(self) -> dict[str, Any]:
        """The header's `sites` object, as JSON-ready values."""
        sites: dict[str, Any] = msgspec.to_builtins(self.config.sites)
        return sites

    @property
    def reference(self) -> str:
        """The `model` string by which its owner refers to exactly this version."""
        return f"{self.name}@{self.version}"

    def called_by(self, tenant: str) -> str:
        """Return the `model` string by which a tenant refers to the adapter: for its own, the bare name."""
        return self.name if tenant == self.tenant else f"{self.tenant}/{self.name}"


@dataclass(frozen=True, slots=True)
class Published:
    """The result of a publication; `created` is false if the current version already had these bytes."""

    version: AdapterVersion
    created: bool


@dataclass(frozen=True, slots=True)
class Deleted:
    """The numbers of the deleted versions, newest first, and the digests they referred to."""

    versions: tuple[int, ...]
    digests: tuple[str, ...]
