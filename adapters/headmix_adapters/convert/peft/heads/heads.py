"""Classification heads of foreign adapters: where transformers' classifiers keep them, and the artifact's names.

Owns the three layouts transformers has: `score` on the last token that is not padding (decoders), the pooler and
`classifier` (BERT), `classifier.dense` and `classifier.out_proj` on the first token (RoBERTa).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec
import torch
from torch import Tensor

from headmix_adapters.config import BaseShape, ClassifierConfig, ClassifierKind, Pooling, Problem
from headmix_adapters.convert.checkpoint import BaseCheckpoint
from headmix_adapters.convert.errors import ConvertError
from headmix_adapters.convert.peft.heads.head_config import HeadConfig
from headmix_adapters.convert.peft.module_lora import ModuleLora
from headmix_adapters.families import FAMILIES, ClassifierLayout
from headmix_adapters.sites import classifier_shapes

ROBERTA_NAMES = tuple(f"classifier.{layer}.{kind}" for layer in ("dense", "out_proj") for kind in ("weight", "bias"))
_POOLERS = ("bert.pooler.dense", "pooler.dense")


@dataclass(frozen=True, slots=True)
class HeadWish:
    """The label names and the kind of problem as the user gave them, and the head as the model's `config` describes it.

    What the user gave takes precedence; otherwise labels are LABEL_0, LABEL_1, ..., and the problem is regression for
    one label and single-label classification for several, as in transformers.
    """

    labels: tuple[str, ...] | None = None
    problem: Problem | None = None
    config: HeadConfig = field(default_factory=HeadConfig)


Head = tuple[ClassifierConfig | None, dict[str, Tensor], frozenset[str]]


def peft_head(
    saved: Mapping[str, Tensor],
    base: BaseShape,
    checkpoint: BaseCheckpoint,
    wish: HeadWish,
    pooler: ModuleLora | None = None,
) -> Head:
    """Return the head among PEFT's saved modules, its tensors by artifact name, and the saved names it used.

    `pooler` is the LoRA on BERT's pooler, which its classifier reads; it is added to the pooler's own weights.

    Raises:
        ConvertError: a tensor of it is missing or has the wrong shape, or the number of given labels differs.
    """
    layout = _layout(base)
    if layout == "dense":
        return roberta_head(saved, base, wish)
    if layout == "pooler":
        head, tensors, used = _bert_head(saved, base, checkpoint, wish)
        return (head, tensors | _with_lora(tensors, pooler), used) if head and pooler else (head, tensors, used)
    if "score.weight" not in saved:
        return None, {}, frozenset()
    weight = saved["score.weight"]
    bias = saved.get("score.bias", torch.zeros(weight.shape[0], dtype=weight.dtype))
    tensors = {"classifier.out_proj.weight": weight, "classifier.out_proj.bias": bias}
    used = frozenset({"score.weight", "score.bias"})
    head = _checked(tensors, "last", "linear", base, wish)
    if wish.config.pad_token is not None:
        head = msgspec.structs.replace(head, pad_token=wish.config.pad_token)
    return head, tensors, used


def roberta_head(saved: Mapping[str, Tensor], base: BaseShape, wish: HeadWish) -> Head:
    """Return RoBERTa's own classification head, whose names are the artifact's; raises what `peft_head` raises."""
    found = {name: saved[name] for name in ROBERTA_NAMES if name in saved}
    if not found:
        return None, {}, frozenset()
    if missing := [name for name in ROBERTA_NAMES if name not in found]:
        raise ConvertError(missing[0], "missing, and other tensors of the classification head are there")
    return _checked(found, "cls", "mlp-tanh", base, wish), found, frozenset(found)


def _bert_head(saved: Mapping[str, Tensor], base: BaseShape, checkpoint: BaseCheckpoint, wish: HeadWish) -> Head:
    """Return BERT's head and the pooler it reads, tanh(dense(first token)): the adapter's if saved, or the base's."""
    if "classifier.weight" not in saved:
        return None, {}, frozenset()
    used = {"classifier.weight", "classifier.bias"}
    if "classifier.bias" not in saved:
        raise ConvertError("classifier.bias", "missing, and classifier.weight is there")
    own = next((name for name in _POOLERS if f"{name}.weight" in saved), None)
    tensors = {"classifier.out_proj.weight": saved["classifier.weight"]}
    tensors["classifier.out_proj.bias"] = saved["classifier.bias"]
    for kind in ("weight", "bias"):
        if own is None:
            tensors[f"classifier.dense.{kind}"] = checkpoint.read(f"pooler.dense.{kind}")
        elif f"{own}.{kind}" not in saved:
            raise ConvertError(f"{own}.{kind}", "missing")
        else:
            tensors[f"classifier.dense.{kind}"] = saved[f"{own}.{kind}"]
            used.add(f"{own}.{kind}")
    return _checked(tensors, "cls", "mlp-tanh", base, wish), tensors, frozenset(used)


def is_pooler(module: str, base: BaseShape) -> bool:
    """Return whether a module of the base's model belongs to its classification head and not to its layers."""
    return _layout(base) == "pooler" and module in _POOLERS


def _layout(base: BaseShape) -> ClassifierLayout:
    family = FAMILIES.get(base.model_type)
    return "score" if family is None else family.classifier


def _with_lora(tensors: Mapping[str, Tensor], lora: ModuleLora) -> dict[str, Tensor]:
    """Return the head's dense layer with a LoRA merged into its matrix, which no other adapter shares."""
    weight, bias = (tensors[f"classifier.dense.{kind}"] for kind in ("weight", "bias"))
    if (lora.B.shape[0], lora.A.shape[1]) != tuple(weight.shape):
        raise ConvertError(lora.name, f"its LoRA does not fit the pooler's weights, {list(weight.shape)}")
    wide = torch.promote_types(weight.dtype, torch.float32)
    added = {"classifier.dense.weight": weight.to(wide) + lora.scale * (lora.B.to(wide) @ lora.A.to(wide))}
    if lora.bias is not None:
        added["classifier.dense.bias"] = bias.to(wide) + lora.scale * lora.bias.to(wide)
    return added


def _checked(
    tensors: Mapping[str, Tensor], pooling: Pooling, kind: ClassifierKind, base: BaseShape, wish: HeadWish
) -> ClassifierConfig:
    weight = tensors["classifier.out_proj.weight"]
    count = weight.shape[0]
    labels = wish.labels or wish.config.labels_of(count)
    if len(labels) != count:
        raise ConvertError("labels", f"{len(labels)} are given, the classification head has {count}")
    problem = wish.problem or wish.config.problem or ("regression" if count == 1 else "single_label")
    config = ClassifierConfig(pooling=pooling, kind=kind, labels=labels, problem=problem)
    for name, shape in classifier_shapes(config, base.hidden_size).items():
        if tuple(tensors[name].shape) != shape:
            raise ConvertError(name, f"its shape is {list(tensors[name].shape)}, the base asks for {list(shape)}")
    return config
