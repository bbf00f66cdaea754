"""An adapter's dense form merged into a copy of its model, in plain loops without any of the package's math.

Every Kernel-mix adapter equals a change to the base's weights and biases (the value's base k through the key's own
weights), so a merged copy must compute what an attached adapter computes. The module names of each family are spelled
out here again.
"""

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from headmix_adapters.config import AdapterConfig

_LLAMA = {
    "q": ("layers.{}.self_attn.q_proj",),
    "k": ("layers.{}.self_attn.k_proj",),
    "v": ("layers.{}.self_attn.v_proj",),
    "o": ("layers.{}.self_attn.o_proj",),
    "gate_up": ("layers.{}.mlp.gate_proj", "layers.{}.mlp.up_proj"),
    "down": ("layers.{}.mlp.down_proj",),
}
_GPT2 = {
    "q": ("h.{}.attn.c_attn",),
    "k": ("h.{}.attn.c_attn",),
    "v": ("h.{}.attn.c_attn",),
    "o": ("h.{}.attn.c_proj",),
    "gate_up": ("h.{}.mlp.c_fc",),
    "down": ("h.{}.mlp.c_proj",),
}
_BERT = {
    "q": ("encoder.layer.{}.attention.self.query",),
    "k": ("encoder.layer.{}.attention.self.key",),
    "v": ("encoder.layer.{}.attention.self.value",),
    "o": ("encoder.layer.{}.attention.output.dense",),
    "gate_up": ("encoder.layer.{}.intermediate.dense",),
    "down": ("encoder.layer.{}.output.dense",),
}
_NAMES = {"gpt2": _GPT2, "bert": _BERT, "roberta": _BERT}
# Where a site begins in the fused projection's rows, in units of the hidden size.
_FUSED = {"q": 0, "k": 1, "v": 2}


@torch.no_grad()
def merged(model: PreTrainedModel, config: AdapterConfig, tensors: Mapping[str, Tensor]) -> PreTrainedModel:
    """Return a copy of the model with the adapter's dense form added to its weights."""
    result = copy.deepcopy(model)
    backbone: nn.Module = getattr(result, result.base_model_prefix, result)
    for layer in sorted({int(name.split(".")[1]) for name in tensors if name.startswith("layers.")}):
        own = {name.split(".", 2)[2]: tensor for name, tensor in tensors.items() if name.startswith(f"layers.{layer}.")}
        _merge_layer(backbone, config, own, layer)
    return result


def _merge_layer(backbone: nn.Module, config: AdapterConfig, tensors: Mapping[str, Tensor], layer: int) -> None:
    names = _NAMES.get(config.base.model_type, _LLAMA)
    modules = {site: [backbone.get_submodule(path.format(layer)) for path in paths] for site, paths in names.items()}
    fused = _FUSED if config.base.model_type == "gpt2" else {}
    width = config.base.hidden_size
    views = {site: [_rows(module) for module in group] for site, group in modules.items()}
    for site in fused:
        weight, bias = views[site][0]
        views[site] = [(weight[fused[site] * width :][:width], bias[fused[site] * width :][:width])]
    key = (views["k"][0][0].clone(), views["k"][0][1].clone())
    for site in config.sites.present():
        rows = torch.cat([weight for weight, _ in views[site]])
        weight_change, bias_change = _dense(config, site, tensors, rows.shape, key)
        start = 0
        for weight, bias in views[site]:
            weight += weight_change[start : start + len(weight)]
            bias += bias_change[start : start + len(bias)]
            start += len(weight)


def _rows(module: nn.Module) -> tuple[Tensor, Tensor]:
    """Return views of a projection's weight (out, in) and bias (out); a missing bias is added as zeros."""
    weight = module.weight
    assert isinstance(weight, Tensor)
    if isinstance(module, Conv1D):
        weight = weight.T
    if getattr(module, "bias", None) is None:
        module.bias = nn.Parameter(torch.zeros(weight.shape[0]))
    assert isinstance(module.bias, Tensor)
    return weight, module.bias


def _dense(
    config: AdapterConfig, site: str, tensors: Mapping[str, Tensor], shape: torch.Size, key: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """Return one site's change to weight and bias, head by head."""
    parts, size = config.sites.present()[site], config.base.head_dim
    weight, bias = torch.zeros(shape), torch.zeros(shape[0])
    if parts.head is not None:
        A, B, scale = tensors[f"{site}.head.A"], tensors[f"{site}.head.B"], parts.head.scale
        b = tensors.get(f"{site}.head.bias")
        for head in range(A.shape[0]):
            rows = slice(head * size, (head + 1) * size)
            product = scale * B[head] @ A[head]
            if parts.head.base == "a":
                weight[:, rows] += product
            elif parts.head.base == "k":
                weight[rows] += product @ key[0][rows]
                bias[rows] += product @ key[1][rows]
            else:
                weight[rows] += product
        if b is not None:
            bias += scale * b.reshape(-1)
    if parts.shared is not None:
        weight += parts.shared.scale * tensors[f"{site}.shared.B"] @ tensors[f"{site}.shared.A"]
    return weight, bias
