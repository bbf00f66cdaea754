"""An adapter's head parts as PEFT's block-diagonal LoRA: the blocks alone, at the artifact's own size.

Owns what that form can express, the number of blocks, and the scales, which stay beside the tensors so that converting
the folder again gives the same numbers. `export` writes the files.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import gcd

import msgspec
from torch import Tensor

from headmix_adapters.config import AdapterConfig, Sites
from headmix_adapters.convert.dense import DenseLora
from headmix_adapters.convert.errors import ConvertError
from headmix_adapters.convert.peft.block_diagonal import FIELD, only_blocks
from headmix_adapters.convert.peft.head_parts import HEAD_FACTOR
from headmix_adapters.families import Part, family_of

PEFT_LORA = "peft-lora"
PEFT_BDLORA = "peft-bdlora"
FORMATS = (PEFT_LORA, PEFT_BDLORA)


@dataclass(frozen=True, slots=True)
class BlockForm:
    """Tensors by their names below the modules', each module's rank and alpha, and the value of `use_bdlora`."""

    tensors: dict[str, Tensor]
    ranks: dict[str, int]
    alphas: dict[str, float]
    setting: dict[str, object]


def require_blocks(config: AdapterConfig) -> None:
    """Check that an adapter can be a block-diagonal LoRA, before anything is computed.

    Raises:
        ConvertError: a site has both parts, no site has a head part, or PEFT has no such LoRA for the base's family.
    """
    if family_of(config.base.model_type).transposed:
        raise ConvertError("base.model_type", f"PEFT has no block-diagonal LoRA for {config.base.model_type} bases")
    sites = config.sites.present()
    if not any(site.head for site in sites.values()):
        raise ConvertError("sites", f"no site has a head part: --to {PEFT_LORA} writes a plain LoRA")
    for name, site in sites.items():
        if site.head is not None and site.shared is not None:
            raise ConvertError(
                f"sites.{name}", f"its shared part beside the head part is no block: --to {PEFT_LORA} writes both"
            )


def unscaled(config: AdapterConfig) -> AdapterConfig:
    """Return the config with every scale 1; `block_form` puts the scales beside the tensors."""
    sites = {
        name: msgspec.structs.replace(
            site,
            head=site.head and msgspec.structs.replace(site.head, scale=1.0),
            shared=site.shared and msgspec.structs.replace(site.shared, scale=1.0),
        )
        for name, site in config.sites.present().items()
    }
    return msgspec.structs.replace(config, sites=Sites(**sites))


def block_form(config: AdapterConfig, loras: Mapping[str, DenseLora]) -> BlockForm:
    """Return the stored form of the modules' LoRAs, given unscaled and written out.

    Raises:
        ConvertError: a bias is not zero, which PEFT's block-diagonal factors do not have.
    """
    family, sites = family_of(config.base.model_type), config.sites.present()
    blocks = _blocks(config)
    form = BlockForm({}, {}, {}, {})
    sides: dict[str, list[str]] = {"A": [], "B": []}
    for module, parts in family.modules.items():
        factor = HEAD_FACTOR[_site(parts)] if _has_head(sites, parts) else None
        if factor is not None:
            sides[factor].append(module)
    for name, lora in loras.items():
        module = next(module for module in family.modules if name.endswith(f".{module}"))
        (part,) = family.modules[module]
        if lora.bias.any():
            raise ConvertError(f"sites.{part.site}.head.bias", f"{FIELD} has no biases: --to {PEFT_LORA} writes them")
        scale = config.sites.scales()[f"{part.site}.{'head' if _has_head(sites, (part,)) else 'shared'}"]
        alpha, B = _alpha(scale, lora)
        factors = {"A": lora.A, "B": B}
        for side, modules in sides.items():
            if module in modules:
                factors[side] = only_blocks(factors[side], blocks)
        form.tensors.update({f"{name}.lora_{side}.weight": tensor for side, tensor in factors.items()})
        form.ranks[name], form.alphas[name] = lora.rank, alpha
    form.setting.update(
        {
            "target_modules_bd_a": sides["A"] or None,
            "target_modules_bd_b": sides["B"] or None,
            "nblocks": blocks,
            "match_strict": False,
        }
    )
    return form


def _blocks(config: AdapterConfig) -> int:
    """Return the number of blocks, which PEFT has one of for all modules: whole heads of every site."""
    heads = {"q": config.base.num_heads, "v": config.base.num_kv_heads, "o": config.base.num_heads}
    return gcd(*(heads[name] for name, site in config.sites.present().items() if site.head is not None))


def _site(parts: tuple[Part, ...]) -> str:
    return parts[0].site


def _has_head(sites: Mapping[str, object], parts: tuple[Part, ...]) -> bool:
    return getattr(sites.get(_site(parts)), "head", None) is not None


def _alpha(scale: float, lora: DenseLora) -> tuple[float, Tensor]:
    """Return an alpha that PEFT divides by the rank to the exact scale; without one, the rank, and B scaled."""
    exact = scale * lora.rank
    for alpha in (float(round(exact)), exact):
        if alpha and alpha / lora.rank == scale:
            return alpha, lora.B
    return float(lora.rank), lora.B * scale
