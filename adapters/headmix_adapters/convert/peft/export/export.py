"""An artifact as a PEFT LoRA folder: the exact LoRA with bias that it equals, at several times its size.

Owns PEFT's file layout for export. The algebra is in `dense`, module names are in `families`; `export_blocks` has the
other form, PEFT's block-diagonal LoRA.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path

import torch
from msgspec import UNSET
from safetensors.torch import save
from torch import Tensor

from headmix_adapters.artifact import Artifact, verify_artifact
from headmix_adapters.artifact.durable import write_durably
from headmix_adapters.artifact.load import load_tensors
from headmix_adapters.base import ResolvedBase
from headmix_adapters.config import AdapterConfig, ClassifierConfig
from headmix_adapters.convert.checkpoint import BaseCheckpoint
from headmix_adapters.convert.dense import DenseLora, dense_term, placed, stacked
from headmix_adapters.convert.errors import ConvertError
from headmix_adapters.convert.peft.block_diagonal import FIELD
from headmix_adapters.convert.peft.config import FILE as CONFIG
from headmix_adapters.convert.peft.export.export_blocks import (
    PEFT_BDLORA,
    PEFT_LORA,
    block_form,
    require_blocks,
    unscaled,
)
from headmix_adapters.convert.peft.heads.head_config import read_head_config
from headmix_adapters.convert.peft.lora import PREFIX, WEIGHTS
from headmix_adapters.families import Family, Part, family_of
from headmix_adapters.sites import iter_terms, symbol_sizes

CHAT_TEMPLATE = "chat_template.jinja"
"""The name under which transformers saves one."""


@dataclass(frozen=True, slots=True)
class _SavedHead:
    """A classification head as PEFT's modules_to_save: tensors by their names in the model, and the modules' names."""

    tensors: dict[str, Tensor]
    modules: list[str]


def export_peft_lora(
    path: Path, folder: Path, base: ResolvedBase, *, to: str = PEFT_LORA, allow_base_mismatch: bool = False
) -> tuple[str, ...]:
    """Write adapter_config.json, adapter_model.safetensors and its own chat template, if any, into a folder.

    `to` is one of `FORMATS`: a plain LoRA in float32, or a block-diagonal one in the artifact's precision.

    Returns:
        Notes for the user who loads the folder, one sentence each.

    Raises:
        ArtifactError: the file is not an artifact for this base.
        ConvertError: it contains something a PEFT LoRA cannot express exactly.
        OSError: the folder cannot be written.
    """
    artifact = verify_artifact(path, base=base.shape, allow_base_mismatch=allow_base_mismatch)
    config = artifact.config
    if config.added_tokens:
        raise ConvertError("added_tokens.embedding", "a PEFT LoRA cannot contain tokens added to the vocabulary")
    if to == PEFT_BDLORA:
        require_blocks(config)
    own = load_tensors(path)
    tensors = {name: tensor.double() for name, tensor in own.items()}
    head = _saved_head(config, tensors)
    written = (_blocks if to == PEFT_BDLORA else _plain)(artifact, tensors, BaseCheckpoint(base.folder))
    prefix = _model_prefix(config)
    stored = head.tensors | {f"{prefix}{name}": tensor for name, tensor in written.tensors.items()}
    dtype = _dtype(config, own) if to == PEFT_BDLORA else torch.float32
    data = {f"{PREFIX}{name}": tensor.to(dtype).contiguous() for name, tensor in stored.items()}
    folder.mkdir(parents=True, exist_ok=True)
    write_durably(folder / WEIGHTS, save(data, metadata={"format": "pt"}))
    text = json.dumps(_adapter_config(config, written, head, base.name), indent=2)
    write_durably(folder / CONFIG, text.encode())
    if config.chat_template:
        write_durably(folder / CHAT_TEMPLATE, config.chat_template.encode())
    return _notes(config, base)


@dataclass(frozen=True, slots=True)
class _Loras:
    """All modules' LoRAs: tensors by their names below the model's backbone, ranks and alphas by module.

    `settings` are the fields of adapter_config.json that this form of LoRA has.
    """

    tensors: dict[str, Tensor]
    ranks: dict[str, int]
    alphas: Mapping[str, float]
    settings: dict[str, object]


def _plain(artifact: Artifact, tensors: Mapping[str, Tensor], checkpoint: BaseCheckpoint) -> _Loras:
    """Return plain LoRAs: every module has its own rank and an equal alpha, so the scale is 1."""
    loras = _module_loras(artifact, tensors, checkpoint)
    has_bias = any(lora.bias.any() for lora in loras.values())
    stored: dict[str, Tensor] = {}
    for module, lora in loras.items():
        stored |= {f"{module}.lora_A.weight": lora.A, f"{module}.lora_B.weight": lora.B}
        if has_bias:
            stored[f"{module}.lora_B.bias"] = lora.bias
    ranks = {module: lora.rank for module, lora in loras.items()}
    return _Loras(stored, ranks, ranks, {"lora_bias": has_bias})


def _blocks(artifact: Artifact, tensors: Mapping[str, Tensor], checkpoint: BaseCheckpoint) -> _Loras:
    config = artifact.config
    loras = _module_loras(replace(artifact, config=unscaled(config)), tensors, checkpoint)
    form = block_form(config, loras)
    return _Loras(form.tensors, form.ranks, form.alphas, {FIELD: form.setting})


def _dtype(config: AdapterConfig, own: Mapping[str, Tensor]) -> torch.dtype:
    """Return the precision that holds the blocks: the artifact's, unless they are computed from the base's key."""
    on_key = any(term.term.input == "k" for term in iter_terms(config.sites))
    dtypes = {tensor.dtype for tensor in own.values()} | ({torch.float32} if on_key else set())
    return reduce(torch.promote_types, dtypes)


def _notes(config: AdapterConfig, base: ResolvedBase) -> tuple[str, ...]:
    template = f"its chats have their own template, {CHAT_TEMPLATE}: pass that to apply_chat_template"
    return (*((template,) if config.chat_template else ()), *_head_notes(config, base))


def _head_notes(config: AdapterConfig, base: ResolvedBase) -> tuple[str, ...]:
    """Return a note if the head reads another token than the base's config says: PEFT's files have no field for it."""
    if config.classifier is None or config.classifier.pooling != "last":
        return ()
    own = None if config.classifier.pad_token is UNSET else config.classifier.pad_token
    theirs = read_head_config(base.folder).pad_token
    if own == theirs:
        return ()
    reads = "the last token" if own is None else f"the last token that is not {own}"
    how = f"load the transformers model with pad_token_id={own}, or texts that end with that token score differently"
    return (f"the head reads {reads}, and the base's config has pad_token_id {theirs}: {how}",)


def _module_loras(
    artifact: Artifact, tensors: Mapping[str, Tensor], checkpoint: BaseCheckpoint
) -> dict[str, DenseLora]:
    """Return the LoRA of every adapted module, by its name below the model's backbone."""
    config = artifact.config
    family = family_of(config.base.model_type)
    loras: dict[str, DenseLora] = {}
    for layer in artifact.layers:
        by_site = _site_loras(config, layer, tensors, checkpoint, family)
        for module, parts in family.modules.items():
            if adapted := [part for part in parts if part.site in by_site]:
                loras[f"{family.layers}.{layer}.{module}"] = _module_lora(parts, adapted, by_site, config)
    return loras


def _site_loras(
    config: AdapterConfig, layer: int, tensors: Mapping[str, Tensor], checkpoint: BaseCheckpoint, family: Family
) -> dict[str, DenseLora]:
    by_site: dict[str, list[DenseLora]] = {}
    for term in iter_terms(config.sites):
        name = f"layers.{layer}.{term.prefix}"
        key = _key_projection(config, layer, checkpoint, family) if term.term.input == "k" else None
        lora = dense_term(term, tensors[f"{name}.A"], tensors[f"{name}.B"], tensors.get(f"{name}.bias"), key)
        by_site.setdefault(term.term.site, []).append(lora)
    return {site: stacked(loras) for site, loras in by_site.items()}


def _module_lora(
    parts: tuple[Part, ...], adapted: list[Part], by_site: Mapping[str, DenseLora], config: AdapterConfig
) -> DenseLora:
    sizes = symbol_sizes(config.base, rank=0)
    height = sum(sizes[part.width] for part in parts)
    pieces, first = [], 0
    for part in parts:
        width = sizes[part.width]
        if part in adapted:
            skip = sizes[part.skip] if part.skip else 0
            pieces.append(placed(by_site[part.site], slice(skip, skip + width), first, height))
        first += width
    return stacked(pieces)


def _key_projection(
    config: AdapterConfig, layer: int, checkpoint: BaseCheckpoint, family: Family
) -> tuple[Tensor, Tensor]:
    """Return the base's key projection of a layer: weight (G*P, D) and bias (G*P)."""
    sizes = symbol_sizes(config.base, rank=0)
    for module, parts in family.modules.items():
        first = 0
        for part in parts:
            if part.site == "k":
                rows = slice(first, first + sizes["GP"])
                name = f"{family.layers}.{layer}.{module}"
                weight = checkpoint.read(f"{name}.weight").double()
                weight = weight.T if family.transposed else weight
                bias_name = f"{name}.bias"
                if bias_name not in checkpoint:
                    return weight[rows].contiguous(), weight.new_zeros(sizes["GP"])
                return weight[rows].contiguous(), checkpoint.read(bias_name).double()[rows]
            first += sizes[part.width]
    raise ConvertError("sites.v.head", f"the key projection of {config.base.model_type} bases is not known")


def _model_prefix(config: AdapterConfig) -> str:
    """Return the prefix that the task's model class puts before its backbone; empty for a bare encoder."""
    family = family_of(config.base.model_type)
    return family.prefix if family.generates or config.task == "classification" else ""


def _saved_head(config: AdapterConfig, tensors: Mapping[str, Tensor]) -> _SavedHead:
    classifier = config.classifier
    if classifier is None:
        return _SavedHead({}, [])
    model_type = config.base.model_type
    out = {kind: tensors[f"classifier.out_proj.{kind}"] for kind in ("weight", "bias")}
    family = family_of(model_type)
    if family.classifier == "score":
        _require(classifier, "last", "linear", model_type)
        if out["bias"].any():
            raise ConvertError("classifier.out_proj.bias", "transformers' decoder classifiers have no bias")
        return _SavedHead({"score.weight": out["weight"]}, ["score"])
    _require(classifier, "cls", "mlp-tanh", model_type)
    dense = {kind: tensors[f"classifier.dense.{kind}"] for kind in ("weight", "bias")}
    if family.classifier == "pooler":
        saved = {f"{family.prefix}pooler.dense.{kind}": tensor for kind, tensor in dense.items()}
        return _SavedHead(
            saved | {f"classifier.{kind}": tensor for kind, tensor in out.items()}, ["pooler", "classifier"]
        )
    saved = {f"classifier.dense.{kind}": tensor for kind, tensor in dense.items()}
    return _SavedHead(saved | {f"classifier.out_proj.{kind}": tensor for kind, tensor in out.items()}, ["classifier"])


def _require(classifier: ClassifierConfig, pooling: str, kind: str, model_type: str) -> None:
    if (classifier.pooling, classifier.kind) != (pooling, kind):
        found = f"{classifier.kind} on the {classifier.pooling} state"
        raise ConvertError("classifier", f"{found}; transformers' classifier for {model_type} is {kind} on {pooling}")


def _adapter_config(config: AdapterConfig, loras: _Loras, head: _SavedHead, base_name: str) -> dict[str, object]:
    """Return adapter_config.json's content; every module has its own rank and alpha."""
    family = family_of(config.base.model_type)
    task = "SEQ_CLS" if config.classifier is not None else "CAUSAL_LM" if family.generates else "FEATURE_EXTRACTION"
    largest = max(loras.ranks.values(), default=1)
    return {
        "peft_type": "LORA",
        "task_type": task,
        "base_model_name_or_path": base_name,
        "r": largest,
        "lora_alpha": largest,
        "rank_pattern": {re.escape(module): rank for module, rank in loras.ranks.items()},
        "alpha_pattern": {re.escape(module): alpha for module, alpha in loras.alphas.items()},
        "target_modules": sorted(loras.ranks),
        "modules_to_save": head.modules or None,
        **loras.settings,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": family.transposed,
        "inference_mode": True,
        "init_lora_weights": True,
    }
