"""A PEFT LoRA folder to an artifact.

Owns the names of PEFT's tensors. What modules are called in each family, `families` says; how their LoRAs are
regrouped, `lora_sites`.
"""

import re
from collections.abc import Mapping
from functools import reduce
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from headmix_adapters.artifact import Limits
from headmix_adapters.base import ResolvedBase
from headmix_adapters.config import AdapterConfig
from headmix_adapters.convert.checkpoint import BaseCheckpoint
from headmix_adapters.convert.errors import ConvertError
from headmix_adapters.convert.heads import HeadWish, peft_head
from headmix_adapters.convert.lora_sites import ModuleLora, Piece, build_sites, pieces_of
from headmix_adapters.convert.peft_config import CLASSIFICATION_TASK, PeftLoraConfig, read_peft_config
from headmix_adapters.convert.result import Converted, converter_name
from headmix_adapters.families import Family, Part, UnknownFamilyError, family_of

WEIGHTS = "adapter_model.safetensors"
PREFIX = "base_model.model."
_LORA = re.compile(r"(.+)\.lora_(A|B)\.(weight|bias)")
_WRAPPERS = r"(?:(?:model|transformer|bert|roberta)\.)*"
_REASONS = {
    "lora_magnitude_vector": "a DoRA magnitude, which no low-rank addition equals",
    "lora_embedding_": "LoRA on an embedding has no site in an artifact",
    "lora_diag": "not plain LoRA",
    "trainable_tokens": "trained rows of the base's vocabulary are not part of an artifact",
}
# Fused projections of checkpoints whose own code differs from transformers' in nothing else.
_FUSED: Mapping[str, tuple[str, ...]] = {
    "self_attn.qkv_proj": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "mlp.gate_up_proj": ("mlp.gate_proj", "mlp.up_proj"),
    "self_attn.out_proj": ("self_attn.o_proj",),
    "self_attn.dense": ("self_attn.o_proj",),
}


def convert_peft_lora(folder: Path, base: ResolvedBase, wish: HeadWish) -> Converted:
    """Turn a PEFT LoRA folder into an artifact that computes the same.

    Raises:
        ConvertError: it cannot be expressed exactly, or does not fit the base; the tensor or field is named.
    """
    config = read_peft_config(folder)
    tensors = _load(folder)
    loras, rest = _split(tensors, config)
    pieces = _collect(loras, base)
    head, head_tensors, used = peft_head(rest, base.shape, BaseCheckpoint(base.folder), wish)
    if unknown := sorted(rest.keys() - used):
        raise ConvertError(unknown[0], _reason(unknown[0]))
    if config.task_type == CLASSIFICATION_TASK and head is None:
        raise ConvertError("modules_to_save", "task_type is SEQ_CLS, but the folder holds no classification head")
    result = build_sites(pieces, base.shape, max_rank=Limits().max_rank)
    if head is None and not result.sites.present():
        raise ConvertError("lora_B", "zero effect: every B is zero, so the adapter would answer as the bare base does")
    artifact = AdapterConfig(
        method="kernel-mix" if any(site.head for site in result.sites.present().values()) else "lora",
        task="generation" if head is None else "classification",
        base=base.shape,
        sites=result.sites,
        classifier=head,
        training={"converted_from": "PEFT LoRA", "notes": list(result.notes)},
        created_by=converter_name(),
    )
    dtype = _stored_dtype([*_lora_tensors(loras), *head_tensors.values()], widen=result.folded)
    return Converted(artifact, result.tensors | head_tensors, dtype, result.notes)


def _load(folder: Path) -> dict[str, Tensor]:
    path = folder / WEIGHTS
    if not path.is_file():
        pickled = (folder / "adapter_model.bin").is_file()
        hint = "; adapter_model.bin is a pickle, which is not read: save it with safe_serialization" if pickled else ""
        raise ConvertError(WEIGHTS, f"missing{hint}")
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ConvertError(WEIGHTS, f"not a sound safetensors file: {error}") from None
    return {name.removeprefix(PREFIX): tensor for name, tensor in tensors.items()}


def _split(tensors: Mapping[str, Tensor], config: PeftLoraConfig) -> tuple[list[ModuleLora], dict[str, Tensor]]:
    """Return the modules' LoRAs, in the names' order, and the tensors that are no part of one."""
    modules: dict[str, dict[str, Tensor]] = {}
    rest: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if match := _LORA.fullmatch(name):
            modules.setdefault(match[1], {})[f"{match[2]}.{match[3]}"] = tensor
        else:
            rest[name] = tensor
    if not modules:
        raise ConvertError(WEIGHTS, "it holds no lora_A and lora_B tensors")
    return [_module_lora(name, parts, config) for name, parts in sorted(modules.items())], rest


def _module_lora(module: str, parts: Mapping[str, Tensor], config: PeftLoraConfig) -> ModuleLora:
    for part in ("A.weight", "B.weight"):
        if part not in parts:
            raise ConvertError(f"{module}.lora_{part}", "missing")
        if parts[part].dim() != 2:
            raise ConvertError(f"{module}.lora_{part}", f"its shape is {list(parts[part].shape)}, not a matrix's")
    if "A.bias" in parts:
        raise ConvertError(f"{module}.lora_A.bias", "LoRA has no such tensor")
    for part, tensor in parts.items():
        if tensor.dtype not in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
            raise ConvertError(f"{module}.lora_{part}", f"its dtype {tensor.dtype} is not a plain float")
    rank = config.rank_of(module)
    found = (parts["A.weight"].shape[0], parts["B.weight"].shape[1])
    if found != (rank, rank):
        raise ConvertError(f"{module}.lora_A.weight", f"its rank is {found[0]} (B: {found[1]}), the config says {rank}")
    bias = parts.get("B.bias")
    if bias is not None and bias.shape != parts["B.weight"].shape[:1]:
        raise ConvertError(
            f"{module}.lora_B.bias", f"its shape is {list(bias.shape)}, B has {parts['B.weight'].shape[0]} rows"
        )
    return ModuleLora(module, parts["A.weight"], parts["B.weight"], bias, config.scale_of(module))


def _collect(loras: list[ModuleLora], base: ResolvedBase) -> dict[int, dict[str, list[Piece]]]:
    """Return the pieces by layer and site; the gate's come before the up projection's."""
    try:
        family = family_of(base.shape.model_type)
    except UnknownFamilyError as error:
        raise ConvertError("base", str(error)) from None
    table = _module_table(family, gated=base.shape.gated_mlp)
    path = re.compile(rf"{_WRAPPERS}{re.escape(family.layers)}\.(\d+)\.(.+)")
    pieces: dict[int, dict[str, list[Piece]]] = {}
    for lora in loras:
        match = path.fullmatch(lora.name)
        parts = table.get(match[2]) if match else None
        if match is None or parts is None:
            raise ConvertError(
                lora.name,
                f"LoRA on this module is not served for {base.shape.model_type} bases; served: {', '.join(table)}",
            )
        layer = int(match[1])
        if layer >= base.shape.num_layers:
            raise ConvertError(lora.name, f"the base has {base.shape.num_layers} layers, counted from 0")
        for site, piece in pieces_of(lora, parts, base.shape).items():
            pieces.setdefault(layer, {}).setdefault(site, []).append(piece)
    return dict(sorted(pieces.items()))


def _module_table(family: Family, *, gated: bool) -> dict[str, tuple[Part, ...]]:
    """Return the family's modules and the fused or renamed forms of them."""
    table = dict(family.modules)
    for fused, modules in _FUSED.items():
        if all(module in table for module in modules) and (gated or not fused.startswith("mlp")):
            table[fused] = tuple(part for module in modules for part in table[module])
    return table


def _reason(name: str) -> str:
    for mark, reason in _REASONS.items():
        if mark in name:
            return reason
    return "a saved module that an artifact has no place for (classification heads are the ones it has)"


def _lora_tensors(loras: list[ModuleLora]) -> list[Tensor]:
    return [tensor for lora in loras for tensor in (lora.A, lora.B, lora.bias) if tensor is not None]


def _stored_dtype(tensors: list[Tensor], *, widen: bool) -> torch.dtype:
    """Return the least precision that holds every value as it is; `widen` where products were formed."""
    dtypes = {tensor.dtype for tensor in tensors} | ({torch.float32} if widen else set())
    return reduce(torch.promote_types, dtypes)
