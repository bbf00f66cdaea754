"""The methods compared and their ranks: adapters of the same number of parameters on the same sites, q, v and o.

Kernel-mix has the authors' ranks. The others are given the ranks that come closest to its number of parameters; the
classification head, the same for all, is not counted.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from headmix_adapters.config import AdapterConfig, BaseShape, HeadPart, Method, SharedPart, SiteConfig, Sites, Task
from headmix_adapters.presets import PresetName, kernel_mix_sites, preset_ranks
from headmix_adapters.sites import num_parameters

Budget = Literal["small", "large"]
BUDGETS: tuple[Budget, ...] = ("small", "large")
PRESETS: Mapping[Budget, PresetName] = MappingProxyType({"small": "roberta-nlu", "large": "gpt2-nlg"})

KERNEL_MIX, LITE, LORA, BD_LORA = "Kernel-mix", "Kernel-mix lite", "LoRA", "BD-LoRA"
METHODS = (KERNEL_MIX, LITE, LORA, BD_LORA)
TOLERANCE = 0.05


@dataclass(frozen=True, slots=True)
class Ranks:
    """A rank for each site."""

    q: int
    v: int
    o: int

    def __str__(self) -> str:
        return f"{self.q}, {self.v}, {self.o}"


@dataclass(frozen=True, slots=True)
class Contenders:
    """The ranks of the three methods that are fitted to Kernel-mix's size on one base."""

    lite: Ranks
    lora: Ranks
    bd_lora: Ranks


RANKS: Mapping[tuple[str, Budget], Contenders] = MappingProxyType(
    {
        ("minilm-l6", "small"): Contenders(Ranks(2, 5, 2), Ranks(11, 11, 11), Ranks(2, 2, 1)),
        ("minilm-l6", "large"): Contenders(Ranks(7, 8, 8), Ranks(36, 36, 36), Ranks(6, 6, 5)),
        ("smollm2-135m-instruct", "small"): Contenders(Ranks(2, 13, 2), Ranks(10, 10, 10), Ranks(2, 4, 2)),
        ("smollm2-135m-instruct", "large"): Contenders(Ranks(8, 8, 8), Ranks(32, 32, 32), Ranks(7, 7, 7)),
        ("gemma3-270m", "small"): Contenders(Ranks(3, 8, 3), Ranks(6, 8, 6), Ranks(3, 6, 3)),
        ("gemma3-270m", "large"): Contenders(Ranks(12, 8, 10), Ranks(20, 20, 20), Ranks(10, 15, 10)),
    }
)


def sites_of(method: str, base: str, budget: Budget) -> Sites:
    """Return a method's sites on a base; `base` is the name in `RANKS`."""
    ranks = RANKS[base, budget]
    match method:
        case "Kernel-mix":
            return kernel_mix_sites(preset_ranks(PRESETS[budget]))
        case "Kernel-mix lite":
            lite = ranks.lite
            return Sites(
                q=SiteConfig(head=HeadPart(rank=lite.q, base="x")),
                v=SiteConfig(head=HeadPart(rank=lite.v, base="k")),
                o=SiteConfig(head=HeadPart(rank=lite.o, base="a")),
            )
        case "LoRA":
            parts = {site: SharedPart(rank=getattr(ranks.lora, site)) for site in ("q", "v", "o")}
            return Sites(**{site: SiteConfig(shared=part) for site, part in parts.items()})
        case "BD-LoRA":
            blocks = ranks.bd_lora
            return Sites(
                q=SiteConfig(head=HeadPart(rank=blocks.q, base="x", bias=False)),
                v=SiteConfig(head=HeadPart(rank=blocks.v, base="x", bias=False)),
                o=SiteConfig(head=HeadPart(rank=blocks.o, base="a", bias=False)),
            )
    raise ValueError(f"no such method: {method}")


def initialised_as(method: str) -> Method:
    """Return whose initial values a method has: the Kernel-mix authors' or LoRA's (A random, B zero)."""
    return "kernel-mix" if method in {KERNEL_MIX, LITE} else "lora"


def adapter_of(method: str, base: str, budget: Budget, shape: BaseShape, task: Task) -> AdapterConfig:
    """Return a method's adapter on a base, without a classification head."""
    return AdapterConfig(method=initialised_as(method), task=task, base=shape, sites=sites_of(method, base, budget))


def parameters_of(base: str, budget: Budget, shape: BaseShape, layers: tuple[int, ...]) -> dict[str, int]:
    """Return every method's number of adapter parameters, without the classification head.

    Raises:
        ValueError: they are not within five percent of each other.
    """
    found = {
        method: num_parameters(adapter_of(method, base, budget, shape, "generation"), layers) for method in METHODS
    }
    if max(found.values()) > (1 + TOLERANCE) * min(found.values()):
        raise ValueError(f"{base}, {budget}: the budgets differ by more than five percent: {found}")
    return found
