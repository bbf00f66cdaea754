"""Heads' offsets and scales as LoFiT and JoLA save them answer as their own code does."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from harness.adapters.peft_lora import load_model
from headmix_adapters.base import ResolvedBase
from headmix_adapters.config import HeadPart, SiteConfig, Sites
from headmix_adapters.convert.errors import ConvertError
from headmix_adapters.convert.result import save_converted
from headmix_adapters.convert.source import convert_source
from headmix_adapters.inject import load_adapter
from tests.adapters.convert.conftest import MakeBase

HEADS = 4
PLACES = {
    "llama": ("model.layers", "self_attn", "o_proj"),
    "qwen2": ("model.layers", "self_attn", "o_proj"),
    "gpt2": ("transformer.h", "attn", "c_proj"),
}
Vectors = dict[tuple[int, int], Tensor]
Gates = dict[tuple[int, str], Tensor]


def vectors(base: ResolvedBase, places: list[tuple[int, int]], seed: int) -> Vectors:
    generator = torch.Generator().manual_seed(seed)
    return {place: torch.randn(base.shape.head_dim, generator=generator) for place in places}


def stored(model_type: str, offsets: Vectors, scales: Vectors, gates: Gates) -> dict[str, Tensor]:
    """The method's tensors by the names of the authors' code."""
    layers, attention, _ = PLACES[model_type]
    tensors = {f"{layers}.{layer}.{attention}.attn_v.{head}": value for (layer, head), value in offsets.items()}
    tensors |= {f"{layers}.{layer}.{attention}.attn_A.{head}": value for (layer, head), value in scales.items()}
    return tensors | {f"{layers}.{layer}.{attention}.{name}": value[:, None] for (layer, name), value in gates.items()}


def theirs(
    model_type: str,
    base: ResolvedBase,
    ids: Tensor,
    offsets: Vectors,
    scales: Vectors,
    gates: Gates,
) -> Tensor:
    """Logits of the base whose heads' outputs are changed as in the authors' forward pass."""
    model, size = load_model(base, "CAUSAL_LM"), base.shape.head_dim
    layers, attention, projection = PLACES[model_type]
    backbone, _, stack = layers.partition(".")

    def change(layer: int) -> Callable[[torch.nn.Module, tuple[Tensor]], tuple[Tensor]]:
        def hook(_: torch.nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
            output = inputs[0].clone()
            for head in range(HEADS):
                g1, g2 = (
                    torch.clamp(torch.sigmoid(gates[layer, name][head]) * 1.2 - 0.1, 0, 1)
                    if (layer, name) in gates
                    else torch.tensor(1.0)
                    for name in ("log_g1", "log_g2")
                )
                own = slice(head * size, (head + 1) * size)
                A, v = (vectors.get((layer, head), torch.zeros(size)) for vectors in (scales, offsets))
                output[..., own] = torch.mul(A * g2 + 1, output[..., own]) + g1 * v
            return (output,)

        return hook

    for layer, block in enumerate(getattr(getattr(model, backbone), stack)):
        getattr(getattr(block, attention), projection).register_forward_pre_hook(change(layer))
    with torch.no_grad():
        logits: Tensor = model(input_ids=ids).logits
    return logits


def own(base: ResolvedBase, source: Path, ids: Tensor) -> tuple[Tensor, Sites, tuple[str, ...]]:
    converted = convert_source(source, base)
    save_converted(converted, source.parent / "out.safetensors")
    model = load_model(base, "CAUSAL_LM")
    load_adapter(model, source.parent / "out.safetensors")
    with torch.no_grad():
        logits: Tensor = model(input_ids=ids).logits
    return logits, converted.config.sites, converted.notes


@pytest.mark.parametrize("model_type", PLACES)
def test_offsets_alone_become_biases_of_the_output(
    model_type: str, make_base: MakeBase, tmp_path: Path, ids: Tensor
) -> None:
    base = make_base(model_type)
    offsets = vectors(base, [(0, 1), (2, 0), (2, 3)], seed=1)
    save_file(stored(model_type, offsets, {}, {}), tmp_path / "lofit.safetensors")
    logits, sites, notes = own(base, tmp_path / "lofit.safetensors", ids)
    torch.testing.assert_close(logits, theirs(model_type, base, ids, offsets, {}, {}), atol=1e-4, rtol=1e-4)
    assert sites == Sites(o=SiteConfig(head=HeadPart(rank=1, base="a")))
    assert notes == ("site o: the offsets of 3 heads became biases",)


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("whole_model", [False, True])
def test_scales_and_jolas_gates_are_part_of_the_answer(
    gated: bool, whole_model: bool, make_base: MakeBase, tmp_path: Path, ids: Tensor
) -> None:
    base = make_base("llama")
    places = [(layer, head) for layer in range(3) for head in range(HEADS)]
    offsets, scales = vectors(base, places, seed=1), vectors(base, [(1, 2), (2, 0)], seed=2)
    generator = torch.Generator().manual_seed(3)
    names = [(layer, name) for layer in range(3) for name in ("log_g1", "log_g2")] if gated else []
    gates = {place: 3 * torch.randn(HEADS, generator=generator) for place in names}
    tensors = stored("llama", offsets, scales, gates)
    if whole_model:  # as their Trainer saves it
        model = load_model(base, "CAUSAL_LM")
        tensors |= {f"module.{name}": tensor.clone() for name, tensor in model.state_dict().items()}
        torch.save(tensors, tmp_path / "pytorch_model.bin")
    source = tmp_path / ("pytorch_model.bin" if whole_model else "jola.safetensors")
    if not whole_model:
        save_file(tensors, source)
    logits, sites, notes = own(base, source, ids)
    torch.testing.assert_close(logits, theirs("llama", base, ids, offsets, scales, gates), atol=1e-4, rtol=1e-4)
    assert sites == Sites(o=SiteConfig(head=HeadPart(rank=base.shape.head_dim, base="a")))
    assert notes[0].endswith("and their scales head parts of the output projection's own size")


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("model.layers.3.self_attn.attn_v.0", torch.ones(12), "the base has 3 layers, counted from 0"),
        ("model.layers.0.self_attn.attn_v.4", torch.ones(12), "the base has 4 heads, counted from 0"),
        ("model.layers.0.self_attn.attn_v.0", torch.ones(8), "its shape is [8], the base's heads have [12]"),
        ("model.layers.0.self_attn.attn_v.0", torch.zeros(12), "attn_v: zero effect: every offset and scale is zero"),
        ("model.layers.1.self_attn.log_g1", torch.ones(4, 1), "log_g1: the layer has one of JoLA's two gates"),
        ("model.layers.1.self_attn.log_g1", torch.ones(3, 1), "it has 3 numbers, the base has 4 heads"),
        (
            "model.layers.1.mlp.attn_v.0",
            torch.ones(12),
            "neither the base's own nor an offset, scale or gate",
        ),
        ("model.norm.weight", torch.ones(32), "model.norm.weight: neither the base's own nor an offset"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(
    name: str, tensor: Tensor, message: str, make_base: MakeBase, tmp_path: Path
) -> None:
    base, path = make_base("llama"), tmp_path / "offsets.safetensors"
    tensors = {"model.layers.1.self_attn.attn_v.0": torch.zeros(12)} | {name: tensor}
    save_file(tensors, path)
    with pytest.raises(ConvertError) as caught:
        convert_source(path, base)
    assert message in str(caught.value)


def test_another_file_is_refused_as_such(make_base: MakeBase, tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"x": torch.ones(1)}, path)
    with pytest.raises(ConvertError, match=r"it has neither adapter_config.json nor heads' offsets \(attn_v, attn_A\)"):
        convert_source(path, make_base("llama"))
    path.write_bytes(b"no file of tensors")
    with pytest.raises(ConvertError, match=r"other.safetensors: not a sound safetensors file"):
        convert_source(path, make_base("llama"))
