"""A catalog with many adapters, written in one go: the rows and files that as many uploads would have left."""

import hashlib
from pathlib import Path

from sqlalchemy import Engine, insert

from headmix_adapters.config import AdapterConfig, encode_config, without_metadata
from headmix_server.catalog.bytes.store import ArtifactStore
from headmix_server.catalog.tables import AdapterRow, ArtifactRow, PromotionRow, VersionRow
from headmix_server.database import ensure_tenant, writing

TENANT = "default"


def name_of(number: int) -> str:
    """Return the name of the adapter with this number."""
    return f"adapter-{number:05d}"


def fill(engine: Engine, count: int, config: AdapterConfig, *, artifacts: Path | None = None) -> None:
    """Give the tenant `default` this many adapters, each with its own bytes; write files if a folder is given."""
    if not count:
        return
    text, contents = encode_config(without_metadata(config)), [f"{number}".encode() for number in range(count)]
    digests = [f"sha256:{hashlib.sha256(content).hexdigest()}" for content in contents]
    if artifacts is not None:
        store = ArtifactStore(artifacts)
        for content, digest in zip(contents, digests, strict=True):
            path = store.path(digest)
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
    with writing(engine) as session:
        ensure_tenant(session, TENANT)
        session.execute(
            insert(ArtifactRow),
            [
                {"digest": digest, "base": config.base.fingerprint, "size_bytes": 5_900_000, "created": 0}
                for digest in digests
            ],
        )
        session.execute(
            insert(AdapterRow),
            [{"id": n + 1, "tenant": TENANT, "name": name_of(n), "current": 1, "last": 1} for n in range(count)],
        )
        session.execute(
            insert(VersionRow),
            [
                {
                    "adapter_id": number + 1,
                    "number": 1,
                    "digest": digest,
                    "state": "ready",
                    "size_bytes": 5_900_000,
                    "num_parameters": 2_900_000,
                    "config": text,
                    "config_bytes": len(text),
                    "created": 0,
                }
                for number, digest in enumerate(digests)
            ],
        )
        session.execute(
            insert(PromotionRow), [{"adapter_id": number + 1, "position": 1, "number": 1} for number in range(count)]
        )
