"""A catalog with many adapters, written in one go: the rows and files that as many uploads would have left."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Engine, insert

from headmix_adapters.artifact import open_artifact
from headmix_adapters.config import AdapterConfig, encode_config, without_metadata
from headmix_server.catalog.bytes.store import ArtifactStore
from headmix_server.catalog.tables import AdapterRow, ArtifactRow, PromotionRow, VersionRow
from headmix_server.core.types import AdapterRef
from headmix_server.database import ensure_tenant, writing

TENANT = "default"


def name_of(number: int) -> str:
    """Return the name of the adapter with this number."""
    return f"adapter-{number:05d}"


@dataclass(frozen=True, slots=True)
class Entry:
    """An adapter to enter into the catalog, with one version."""

    name: str
    digest: str
    size_bytes: int
    config: AdapterConfig


def fill(engine: Engine, count: int, config: AdapterConfig, *, artifacts: Path | None = None) -> None:
    """Give the tenant `default` this many adapters, each with its own bytes; write files if a folder is given."""
    contents = [f"{number}".encode() for number in range(count)]
    digests = [f"sha256:{hashlib.sha256(content).hexdigest()}" for content in contents]
    if artifacts is not None:
        store = ArtifactStore(artifacts)
        for content, digest in zip(contents, digests, strict=True):
            path = store.path(digest)
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
    enter(engine, [Entry(name_of(number), digest, 5_900_000, config) for number, digest in enumerate(digests)])


def fill_with(engine: Engine, refs: Sequence[AdapterRef], artifacts: Path) -> None:
    """Give the tenant `default` these adapters by their names; the store shares their files."""
    store = ArtifactStore(artifacts)
    entries = []
    for ref in refs:
        path, artifact = store.path(ref.digest), open_artifact(Path(ref.path))
        path.parent.mkdir(exist_ok=True)
        path.hardlink_to(ref.path)
        entries.append(Entry(ref.name, ref.digest, artifact.size_bytes, artifact.config))
    enter(engine, entries)


def enter(engine: Engine, entries: Sequence[Entry]) -> None:
    """Write the rows of new adapters of the tenant `default` into an empty catalog."""
    if not entries:
        return
    texts = [encode_config(without_metadata(entry.config)) for entry in entries]
    numbers = range(1, len(entries) + 1)
    with writing(engine) as session:
        ensure_tenant(session, TENANT)
        session.execute(
            insert(ArtifactRow),
            [
                {"digest": e.digest, "base": e.config.base.fingerprint, "size_bytes": e.size_bytes, "created": 0}
                for e in entries
            ],
        )
        session.execute(
            insert(AdapterRow),
            [
                {"id": number, "tenant": TENANT, "name": entry.name, "current": 1, "last": 1}
                for number, entry in zip(numbers, entries, strict=True)
            ],
        )
        session.execute(
            insert(VersionRow),
            [
                {
                    "adapter_id": number,
                    "number": 1,
                    "digest": entry.digest,
                    "state": "ready",
                    "size_bytes": entry.size_bytes,
                    "num_parameters": entry.size_bytes // 2,
                    "config": text,
                    "config_bytes": len(text),
                    "created": 0,
                }
                for number, entry, text in zip(numbers, entries, texts, strict=True)
            ],
        )
        session.execute(
            insert(PromotionRow), [{"adapter_id": number, "position": 1, "number": 1} for number in numbers]
        )
