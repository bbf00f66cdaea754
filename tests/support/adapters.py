"""Random adapters in memory, for tests of everything that computes with them."""

import torch
from torch import Tensor

from headmix_adapters.config import (
    AdapterConfig,
    BaseShape,
    ClassifierConfig,
    HeadPart,
    SharedPart,
    SiteConfig,
    Sites,
)
from headmix_adapters.sites import tensor_shapes

MIXED_SITES = (
    Sites(
        q=SiteConfig(head=HeadPart(rank=3, base="x"), shared=SharedPart(rank=5)),
        v=SiteConfig(head=HeadPart(rank=4, base="k"), shared=SharedPart(rank=2)),
        o=SiteConfig(head=HeadPart(rank=4, base="a"), shared=SharedPart(rank=2)),
    ),
    Sites(q=SiteConfig(head=HeadPart(rank=1, base="x", scale=0.5)), v=SiteConfig(head=HeadPart(rank=2, base="k"))),
    Sites(
        q=SiteConfig(shared=SharedPart(rank=6, scale=2.0)),
        k=SiteConfig(shared=SharedPart(rank=3)),
        v=SiteConfig(shared=SharedPart(rank=6, scale=2.0)),
        o=SiteConfig(shared=SharedPart(rank=1)),
    ),
    Sites(
        v=SiteConfig(head=HeadPart(rank=2, base="x", bias=False)),
        o=SiteConfig(head=HeadPart(rank=1, base="a", scale=3)),
    ),
    Sites(k=SiteConfig(shared=SharedPart(rank=4))),
)
"""Sites that differ in every respect: parts, bases, ranks, scales, biases."""


def random_config(base: BaseShape, sites: Sites, classifier: ClassifierConfig | None = None) -> AdapterConfig:
    """Return the config of an adapter with these sites."""
    only_shared = all(site.head is None for site in sites.present().values())
    return AdapterConfig(
        method="lora" if only_shared else "kernel-mix",
        task="generation" if classifier is None else "classification",
        base=base,
        sites=sites,
        classifier=classifier,
        created_by="headmix tests",
    )


def random_tensors(
    config: AdapterConfig, seed: int, layers: tuple[int, ...] | None = None, spread: float = 0.2
) -> dict[str, Tensor]:
    """Return normal random tensors for every name the table of shapes asks for."""
    generator = torch.Generator().manual_seed(seed)
    shapes = tensor_shapes(config, layers)
    return {name: torch.randn(shape, generator=generator) * spread for name, shape in shapes.items()}
