"""Checkpoints of the research code of the paper's authors (arXiv 2205.03720): full models, GPT-2 and RoBERTa.

Owns their tensor names and layouts, which are the paper's own. The frozen model inside must be the base.
"""

import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from headmix_adapters.artifact.faults import quoted
from headmix_adapters.base import ResolvedBase
from headmix_adapters.config import AdapterConfig, BaseShape, HeadBase, HeadPart, SharedPart, SiteConfig, Sites
from headmix_adapters.convert.errors import ConvertError
from headmix_adapters.convert.peft.heads.heads import HeadWish, roberta_head
from headmix_adapters.convert.research.frozen_part import check_frozen_part
from headmix_adapters.convert.result import Converted, converter_name

LEAST_ALPHA = 1.5
"""The authors' code scales shared parts by lora_alpha / r above this value, and by 1 otherwise."""

_OWNERS = (
    re.compile(r"transformer\.h\.(?P<layer>\d+)\.attn\.adapter_controller_l\.(?P<inner>.+)"),
    re.compile(
        r"roberta\.encoder\.layer\.(?P<layer>\d+)\.attention\."
        r"(?:ef_kernel_lora|self\.ef_attn_adapter|output\.ef_attn_adapter)\.(?P<inner>.+)"
    ),
)
_TERM = re.compile(r"(?:adapters\.(?P<task>[^.]+)\.)?W(?P<site>[QVO])_(?P<part>share_)?LoRA\.(?P<tensor>lora_[AB]|b)")
_TENSORS = {"lora_A": "A", "lora_B": "B", "b": "bias"}


@dataclass(frozen=True, slots=True)
class ResearchOptions:
    """What the checkpoint itself does not say. `added_tokens` name the vocabulary's rows beyond the base's."""

    task: str | None = None
    lora_alpha: float = 0.0
    added_tokens: tuple[str, ...] = ()
    allow_base_mismatch: bool = False


@dataclass(frozen=True, slots=True)
class _Adapter:
    """One task's terms: layer -> `q.head.A` -> tensor as stored, and each tensor's name for error messages."""

    layers: dict[int, dict[str, Tensor]]
    names: dict[tuple[int, str], str]


def convert_research(path: Path, base: ResolvedBase, options: ResearchOptions, wish: HeadWish) -> Converted:
    """Turn a checkpoint into an artifact that computes the same.

    Raises:
        ConvertError: it is not such a checkpoint, does not fit the base, or contains another frozen model.
    """
    state = load_state(path)
    adapter, rest = _split(state, options.task)
    shape = base.shape
    sites = _sites(adapter, shape, options.lora_alpha)
    tensors = {
        f"layers.{layer}.{name}": _layout(name, tensor, adapter.names[layer, name], shape)
        for layer, named in adapter.layers.items()
        for name, tensor in named.items()
    }
    head, head_tensors, used = roberta_head(rest, shape, wish)
    frozen = {name: tensor for name, tensor in rest.items() if name not in used}
    added = check_frozen_part(frozen, base, allow_mismatch=options.allow_base_mismatch)
    if added is None and options.added_tokens:
        raise ConvertError("added_tokens", "names are given, but the vocabulary is the base's")
    if added is not None:
        if len(options.added_tokens) != added.shape[0]:
            given = len(options.added_tokens)
            raise ConvertError(
                "transformer.wte.weight",
                f"{added.shape[0]} rows lie beyond the base's vocabulary, {given} added tokens are named",
            )
        tensors["added_tokens.embedding"] = added
    config = AdapterConfig(
        method="kernel-mix",
        task="generation" if head is None else "classification",
        base=shape,
        sites=sites,
        classifier=head,
        added_tokens=options.added_tokens,
        training={"converted_from": "research checkpoint"},
        created_by=converter_name(),
    )
    return Converted(config, tensors | head_tensors, torch.float32)


def load_state(path: Path) -> dict[str, Tensor]:
    """Read a checkpoint's tensors without executing anything in it.

    Raises:
        ConvertError: it contains anything but tensors.
    """
    try:
        state: object = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ConvertError(path.name, f"cannot be read as a file of tensors alone: {quoted(first)}") from None
    if isinstance(state, Mapping) and isinstance(state.get("state_dict"), Mapping):
        state = state["state_dict"]
    if not isinstance(state, Mapping):
        raise ConvertError(path.name, "it is not a mapping of names to tensors")
    tensors: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise ConvertError(quoted(str(name)), "not a tensor")
        tensors[name.removeprefix("module.")] = tensor
    return tensors


def _split(state: Mapping[str, Tensor], task: str | None) -> tuple[_Adapter, dict[str, Tensor]]:
    """Return one task's terms and all tensors outside the adapters' modules."""
    tasks: dict[str | None, _Adapter] = {}
    rest: dict[str, Tensor] = {}
    for name, tensor in state.items():
        owner = next((match for pattern in _OWNERS if (match := pattern.fullmatch(name))), None)
        if owner is None:
            rest[name] = tensor
            continue
        term = _TERM.fullmatch(owner["inner"])
        if term is None:  # norms and gates of the authors' controller, which the forward pass never uses
            continue
        adapter = tasks.setdefault(term["task"], _Adapter({}, {}))
        part = "shared" if term["part"] else "head"
        _put(adapter, int(owner["layer"]), f"{term['site'].lower()}.{part}.{_TENSORS[term['tensor']]}", name, tensor)
    if not tasks:
        raise ConvertError("WQ_LoRA", "the checkpoint holds no tensors of an adapter of the authors' code")
    known = [name for name in tasks if name is not None]
    if task is None and len(tasks) > 1:
        raise ConvertError("task", f"the checkpoint has several; choose one: {', '.join(sorted(known))}")
    if task is not None and task not in tasks:
        raise ConvertError("task", f"{task} is not in the checkpoint, which has: {', '.join(sorted(known)) or 'none'}")
    return tasks[task] if task is not None else next(iter(tasks.values())), rest


def _put(adapter: _Adapter, layer: int, key: str, name: str, tensor: Tensor) -> None:
    """Record a term's tensor; the authors' RoBERTa lists one module under several names."""
    known = adapter.layers.setdefault(layer, {}).setdefault(key, tensor)
    first = adapter.names.setdefault((layer, key), name)
    if known is not tensor and not torch.equal(known, tensor):
        raise ConvertError(name, f"it differs from {first}, which should be the same tensor")


def _sites(adapter: _Adapter, base: BaseShape, alpha: float) -> Sites:
    """Read ranks, the value's base and biases from the first adapted layer; other layers must agree."""
    layer = min(adapter.layers)
    tensors = adapter.layers[layer]
    sites: dict[str, SiteConfig] = {}
    for site in ("q", "v", "o"):
        head = shared = None
        if f"{site}.head.A" in tensors:
            A = _of_rank(tensors[f"{site}.head.A"], 3, adapter.names[layer, f"{site}.head.A"])
            on_x = site == "v" and A.shape[2] == base.hidden_size != base.head_dim
            reads: HeadBase = "x" if site == "q" or on_x else "k" if site == "v" else "a"
            head = HeadPart(rank=A.shape[1], base=reads, bias=f"{site}.head.bias" in tensors)
        if f"{site}.shared.A" in tensors:
            rank = _of_rank(tensors[f"{site}.shared.A"], 2, adapter.names[layer, f"{site}.shared.A"]).shape[0]
            shared = SharedPart(rank=rank, scale=alpha / rank if alpha > LEAST_ALPHA else 1.0)
        if head is not None or shared is not None:
            sites[site] = SiteConfig(head=head, shared=shared)
    return Sites(**sites)


def _of_rank(tensor: Tensor, dimensions: int, name: str) -> Tensor:
    if tensor.dim() != dimensions:
        raise ConvertError(name, f"its shape is {list(tensor.shape)}, {dimensions} dimensions are expected")
    return tensor


def _layout(key: str, tensor: Tensor, name: str, base: BaseShape) -> Tensor:
    """Return a tensor in the artifact's layout; its sizes are checked when the artifact is written."""
    heads, width = base.num_heads, base.hidden_size
    if key in ("q.head.bias", "v.head.bias") and tensor.dim() == 3:
        return tensor.squeeze(1)  # (H, 1, P)
    if key == "o.head.B":  # (D, H * r) with head-major columns
        if tensor.dim() != 2 or tensor.shape[0] != width or tensor.shape[1] % heads:
            raise ConvertError(name, f"its shape is {list(tensor.shape)}, not [{width}, {heads} heads * rank]")
        return tensor.view(width, heads, -1).permute(1, 0, 2)
    if key.endswith("shared.bias"):
        raise ConvertError(name, "a shared part has no bias")
    return tensor
