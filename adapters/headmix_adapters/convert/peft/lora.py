"""Converts a PEFT LoRA folder to an artifact.

Owns what PEFT's tensors mean. `names` has their names, `families` the names of each family's modules, and `lora_sites`
regroups the modules' LoRAs.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import reduce
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from headmix_adapters.artifact import Limits
from headmix_adapters.artifact.faults import quoted
from headmix_adapters.base import ResolvedBase
from headmix_adapters.config import AdapterConfig
from headmix_adapters.convert.checkpoint import BaseCheckpoint
from headmix_adapters.convert.errors import ConvertError
from headmix_adapters.convert.peft import dora
from headmix_adapters.convert.peft.base_copies import is_base_copy
from headmix_adapters.convert.peft.block_diagonal import written_out
from headmix_adapters.convert.peft.config import CLASSIFICATION_TASK, PeftLoraConfig, read_peft_config
from headmix_adapters.convert.peft.dora import require_room
from headmix_adapters.convert.peft.heads.head_config import read_head_config
from headmix_adapters.convert.peft.heads.heads import HeadWish, is_pooler, peft_head
from headmix_adapters.convert.peft.lora_sites import build_sites, pieces_of
from headmix_adapters.convert.peft.module_lora import ModuleLora, Piece
from headmix_adapters.convert.peft.names import saved_names
from headmix_adapters.convert.peft.new_tokens import new_tokens, token_names
from headmix_adapters.convert.result import Converted, converter_name
from headmix_adapters.families import BACKBONES, Family, Part, UnknownFamilyError, can_generate, family_of

WEIGHTS = "adapter_model.safetensors"
PREFIX = "base_model.model."
INDEX = f"{WEIGHTS}.index.json"
_MAX_NAME = 1024
MAGNITUDE = "magnitude"
_MAGNITUDE = ".lora_magnitude_vector"
_LORA = re.compile(r"(.+)\.lora_(A|B)\.(weight|bias)")
_WRAPPERS = rf"(?:(?:language_model|{'|'.join(BACKBONES)})\.)*"
_VOCABULARY = "retrained rows of the base's vocabulary are not part of an artifact"
_REASONS = {
    "lora_magnitude_vector": "a DoRA magnitude, and use_dora is false",
    "lora_embedding_": "LoRA on an embedding has no site in an artifact",
    "lora_diag": "not plain LoRA",
    "embed_tokens": _VOCABULARY,
    "lm_head": _VOCABULARY,
    "word_embeddings": _VOCABULARY,
    "wte": _VOCABULARY,
    "base_layer.bias": "a retrained bias of the base is not part of an artifact",
    "base_layer.weight": "it is not this base's weight, so the adapter is for another base",
}
_HEADS = ("score.", "classifier.")
# Fused projections, for checkpoints whose own code differs from transformers' only in that.
_FUSED: Mapping[str, tuple[str, ...]] = {
    "self_attn.qkv_proj": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "mlp.gate_up_proj": ("mlp.gate_proj", "mlp.up_proj"),
    "self_attn.out_proj": ("self_attn.o_proj",),
    "self_attn.dense": ("self_attn.o_proj",),
}


def convert_peft_lora(
    folder: Path, base: ResolvedBase, wish: HeadWish, added_tokens: tuple[str, ...] = ()
) -> Converted:
    """Turn a PEFT LoRA folder into an artifact that computes the same.

    `added_tokens` are the names of rows beyond the base's vocabulary; default: those in the folder's tokenizer.

    Raises:
        ConvertError: the LoRA cannot be expressed exactly, or does not fit the base; the tensor or field is named.
    """
    config = read_peft_config(folder)
    tensors = _load(folder)
    loras, rest = _split(tensors, config)
    # If a classifier reads the pooler, PEFT's `all-linear` adapts the pooler too.
    pooler = next((lora for lora in loras if "classifier.weight" in rest and is_pooler(lora.name, base.shape)), None)
    if pooler is not None and pooler.magnitude is not None:
        raise ConvertError(f"{pooler.name}.lora_magnitude_vector", "DoRA on the pooler is not understood")
    checkpoint = BaseCheckpoint(base.folder)
    dora_notes = (require_room(loras, Limits()),) if config.dora else ()
    pieces = _collect([lora for lora in loras if lora is not pooler], base, checkpoint)
    if any(name.startswith(_HEADS) for name in rest):
        wish = replace(wish, config=read_head_config(base.folder, folder))
    head, head_tensors, used = peft_head(rest, base.shape, checkpoint, wish, pooler)
    tokens = new_tokens(
        {name: tensor for name, tensor in rest.items() if name not in used},
        config.token_indices,
        base,
        checkpoint,
        added_tokens or token_names(folder, base.shape.vocab_size),
        generates=config.task_type != CLASSIFICATION_TASK and can_generate(base.shape.model_type),
    )
    others = sorted(rest.keys() - used - tokens.used)
    for name in others:
        if not is_base_copy(name, rest[name], checkpoint):
            raise ConvertError(name, _reason(name))
    if config.task_type == CLASSIFICATION_TASK and head is None:
        raise ConvertError("modules_to_save", "task_type is SEQ_CLS, but the folder holds no classification head")
    result = build_sites(pieces, base.shape, Limits())
    if head is None and not result.sites.present() and tokens.rows is None:
        raise ConvertError("lora_B", "zero effect: every B is zero, so the adapter would answer like the base alone")
    copies = (f"{len(others)} tensors equal the base's own and were left out",) if others else ()
    notes = (*dora_notes, *result.notes, *copies)
    artifact = AdapterConfig(
        method="kernel-mix" if any(site.head for site in result.sites.present().values()) else "lora",
        task="generation" if head is None else "classification",
        base=base.shape,
        sites=result.sites,
        classifier=head,
        added_tokens=tokens.names,
        training={"converted_from": "PEFT LoRA", "notes": list(notes)},
        created_by=converter_name(),
    )
    rows = {} if tokens.rows is None else {"added_tokens.embedding": tokens.rows}
    stored = [*_lora_tensors(loras), *head_tensors.values(), *rows.values()]
    dtype = _stored_dtype(stored, widen=result.folded or config.dora)
    return Converted(artifact, result.tensors | head_tensors | rows, dtype, notes)


def _load(folder: Path) -> dict[str, Tensor]:
    path = folder / WEIGHTS
    if not path.is_file():
        pickled = (folder / "adapter_model.bin").is_file()
        hint = "; adapter_model.bin is a pickle, which is not read: save it with safe_serialization" if pickled else ""
        if (folder / INDEX).is_file():
            hint = f"; {INDEX} names several files: save the adapter in one"
        raise ConvertError(WEIGHTS, f"missing{hint}")
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ConvertError(WEIGHTS, f"not a sound safetensors file: {error}") from None
    if long := [name for name in tensors if len(name) > _MAX_NAME]:
        raise ConvertError(quoted(long[0]), f"its name has {len(long[0])} characters, at most {_MAX_NAME} are read")
    return {saved: tensors[name] for saved, name in saved_names(tensors).items()}


def _split(tensors: Mapping[str, Tensor], config: PeftLoraConfig) -> tuple[list[ModuleLora], dict[str, Tensor]]:
    """Return the modules' LoRAs, sorted by name, and the tensors that are not part of one."""
    modules: dict[str, dict[str, Tensor]] = {}
    rest: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if match := _LORA.fullmatch(name):
            modules.setdefault(match[1], {})[f"{match[2]}.{match[3]}"] = tensor
        elif config.dora and name.endswith(_MAGNITUDE):
            modules.setdefault(name.removesuffix(_MAGNITUDE), {})[MAGNITUDE] = tensor
        else:
            rest[name] = tensor
    if not modules:
        first = f" (the first is {quoted(min(tensors))})" if tensors else ""
        raise ConvertError(WEIGHTS, f"none of its {len(tensors)} tensors is a lora_A or lora_B{first}")
    return [_module_lora(name, parts, config) for name, parts in sorted(modules.items())], rest


def _module_lora(module: str, parts: Mapping[str, Tensor], config: PeftLoraConfig) -> ModuleLora:
    if config.dora and MAGNITUDE not in parts:
        raise ConvertError(f"{module}{_MAGNITUDE}", "missing, and use_dora is true")
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
    rank, blocks = config.rank_of(module), config.block_diagonal
    factor = blocks.factor_of(module) if blocks is not None else None
    count = blocks.blocks if blocks is not None and factor is not None else 1
    found = (parts["A.weight"].shape[0], parts["B.weight"].shape[1] * (count if factor == "B" else 1))
    if found != (rank, rank):
        raise ConvertError(f"{module}.lora_A.weight", f"its rank is {found[0]} (B: {found[1]}), the config says {rank}")
    if count > 1:
        name = f"{factor}.weight"
        parts = dict(parts) | {name: written_out(f"{module}.lora_{name}", parts[name], count)}
    bias = parts.get("B.bias")
    if bias is not None and bias.shape != parts["B.weight"].shape[:1]:
        raise ConvertError(
            f"{module}.lora_B.bias", f"its shape is {list(bias.shape)}, B has {parts['B.weight'].shape[0]} rows"
        )
    return ModuleLora(
        module,
        parts["A.weight"],
        parts["B.weight"],
        bias,
        config.scale_of(module),
        factor if count > 1 else None,
        parts.get(MAGNITUDE),
    )


def _collect(
    loras: list[ModuleLora], base: ResolvedBase, checkpoint: BaseCheckpoint
) -> dict[int, dict[str, list[Piece]]]:
    """Return the pieces by layer and site, the gate's before the up projection's."""
    try:
        family = family_of(base.shape.model_type)
    except UnknownFamilyError as error:
        raise ConvertError("base", str(error)) from None
    table = _module_table(family, gated=base.shape.gated_mlp)
    path = re.compile(rf"{_WRAPPERS}{re.escape(family.layers)}\.(\d+)\.(.+)", re.ASCII)
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
        written = lora
        if lora.magnitude is not None:
            weight = checkpoint.read(f"{family.layers}.{match[1]}.{match[2]}.weight")
            weight = weight.T if family.transposed else weight
            written = dora.written_out(lora, parts, weight, base.shape, Limits())
        for site, piece in pieces_of(written, parts, base.shape).items():
            pieces.setdefault(layer, {}).setdefault(site, []).append(piece)
    return dict(sorted(pieces.items()))


def _module_table(family: Family, *, gated: bool) -> dict[str, tuple[Part, ...]]:
    """Return the family's modules and their fused or renamed forms."""
    table = dict(family.modules)
    for fused, modules in _FUSED.items():
        if all(module in table for module in modules) and (gated or not fused.startswith("mlp")):
            table[fused] = tuple(part for module in modules for part in table[module])
    return table


def _reason(name: str) -> str:
    for mark, reason in _REASONS.items():
        if mark in name:
            return reason
    return "a saved module that an artifact cannot contain (only classification heads)"


def _lora_tensors(loras: list[ModuleLora]) -> list[Tensor]:
    return [tensor for lora in loras for tensor in (lora.A, lora.B, lora.bias) if tensor is not None]


def _stored_dtype(tensors: list[Tensor], *, widen: bool) -> torch.dtype:
    """Return the narrowest dtype that holds every value exactly; `widen` if products were computed."""
    dtypes = {tensor.dtype for tensor in tensors} | ({torch.float32} if widen else set())
    return reduce(torch.promote_types, dtypes)
