"""How strongly an adapter changes each head of its base."""

from headmix_adapters.headmap.head_map import HeadMap, SiteMap, map_heads

__all__ = ["HeadMap", "SiteMap", "map_heads"]
