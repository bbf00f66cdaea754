"""Sites that differ in every respect, for batches of adapters that have nothing in common."""

from headmix_adapters.config import HeadPart, SharedPart, SiteConfig, Sites

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

MLP_SITES = Sites(
    gate_up=SiteConfig(shared=SharedPart(rank=3, scale=0.5)), down=SiteConfig(shared=SharedPart(rank=2, scale=2.0))
)
