"""Catalog records that need no artifact: digests and headers made up from a letter."""

import hashlib

from headmix_adapters.config import AdapterConfig, BaseShape, ClassifierConfig, HeadPart, SiteConfig, Sites
from headmix_server.catalog.version import AdapterRecord

BASE = BaseShape(
    name="tiny",
    model_type="llama",
    hidden_size=8,
    num_layers=2,
    num_heads=2,
    num_kv_heads=1,
    head_dim=4,
    vocab_size=16,
    fingerprint="f",
)


def digest_of(content: bytes) -> str:
    """Return the digest of an artifact with these bytes."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def record_of(content: bytes, *, labels: tuple[str, ...] = (), base: str = BASE.fingerprint) -> AdapterRecord:
    """Return a record of an artifact with these bytes; a classifier's if labels are given.

    `base` is the fingerprint it was verified against; the header always names `BASE`.
    """
    config = AdapterConfig(
        method="kernel-mix",
        task="classification" if labels else "generation",
        base=BASE,
        sites=Sites(q=SiteConfig(head=HeadPart(rank=2, base="x"))),
        classifier=ClassifierConfig(pooling="last", kind="linear", labels=labels) if labels else None,
        training={"data": content.decode(errors="replace")},
    )
    return AdapterRecord(digest=digest_of(content), base=base, size_bytes=len(content), num_parameters=7, config=config)
