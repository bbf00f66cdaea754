"""A decoder's layers in one native call compute, bit for bit, what they compute one operation at a time."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from harness.adapters.artifacts import adapter_config, random_tensors
from harness.adapters.mixed_sites import MIXED_SITES
from harness.bases.families import FAMILIES, VOCABULARY
from harness.bases.tiny_model import tiny_shape
from headmix_server.kernels.adapters.image_tables import build_row_route
from headmix_server.kernels.adapters.native import NativeAdapters
from headmix_server.kernels.adapters.slot_span import SlotSpan
from headmix_server.kernels.attention.native import NativePagedAttention
from headmix_server.kernels.native.build import find_compiler
from headmix_server.kernels.native.loading import load_native
from headmix_server.kernels.quantize import native_quantize_rows
from headmix_server.kernels.stored.bfloat16 import available_units
from headmix_server.models import native_layers
from headmix_server.models.formats.int8_linear import int8_linear, native_int8_linear
from headmix_server.models.formats.linear_format import (
    BFloat16Format,
    Int8Format,
    LinearFormat,
    PackedFormat,
    StoredFormat,
)
from headmix_server.models.loading.registry import load_model
from headmix_server.models.model import Model
from tests.support.device.images import Adapter, image_tables
from tests.support.device.spans import Chunk, paged

pytestmark = pytest.mark.skipif(find_compiler() is None, reason="no C++ compiler on this machine")

FORMATS: dict[str, LinearFormat] = {
    "int8": Int8Format(native_quantize_rows, native_int8_linear),
    "stored": StoredFormat(PackedFormat()),
    **{f"bfloat16 by {unit.name}": BFloat16Format(unit) for unit in available_units()},
}
SERVED = ("llama", "mistral", "qwen2", "qwen3")
PLACES, BLOCK = 96, 4
STEPS = (((0, 9), (0, 1), (0, 17)), ((9, 3), (1, 1), (17, 1)), ((12, 1), (2, 1), (18, 1)))
"""Where each sequence's rows of a step begin, and how many there are: prompts, a mixed step, a decode step."""


@pytest.fixture(autouse=True, scope="module")
def native() -> None:
    assert load_native()


@dataclass(frozen=True, slots=True)
class OneByOne:
    """The same attention under a name that one native call does not know."""

    attention: NativePagedAttention

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, *, scale: float, window: int | None) -> Tensor:
        return self.attention.attend(layer, q, k, v, scale=scale, window=window)


def load(folder: Path, family: str, form: LinearFormat, overrides: dict[str, Any] | None = None) -> Model:
    """Make a base whose matrices are as wide as the blocks of stored weights, with 16-bit weights."""
    sizes = {"head_dim": 16, "intermediate_size": 64, "use_bidirectional_attention": False}
    FAMILIES[family].make(folder, sizes | (overrides or {}))
    path = folder / "model.safetensors"
    save_file({name: tensor.bfloat16() for name, tensor in load_file(path).items()}, path, {"format": "pt"})
    return load_model(folder, torch.float32, form)


def mixed_adapters(model: Model, rows: int) -> NativeAdapters:
    """Two adapters that have different terms, on some of the rows."""
    config = model.config
    base = msgspec.structs.replace(
        tiny_shape(),
        hidden_size=config.hidden_size,
        num_layers=config.num_layers,
        num_heads=config.num_heads,
        num_kv_heads=config.num_kv_heads,
        head_dim=config.head_dim,
        intermediate_size=64,
    )
    adapters = {}
    for slot, sites in enumerate(MIXED_SITES[:2]):
        adapter = adapter_config(base, sites)
        layers = tuple(range(config.num_layers))[slot:]
        adapters[slot] = Adapter(adapter, layers, random_tensors(adapter, slot, layers), bf16=slot == 0)
    route = build_row_route([SlotSpan(0, 0, 1), SlotSpan(1, 2, rows - 2)])
    assert route is not None
    return NativeAdapters(image_tables(base, 2, adapters), route)


@torch.inference_mode()
def run(model: Model, *, whole: bool, adapted: bool) -> tuple[list[Tensor], list[Tensor]]:
    """Compute the steps; returns each one's hidden states, and the cache in the end."""
    shape = (PLACES, model.config.num_kv_heads, model.config.head_dim)
    caches = [(torch.zeros(shape), torch.zeros(shape)) for _ in range(model.config.num_layers)]
    owned = [range(first, first + 8) for first in (16, 0, 8)]
    states = []
    for step in STEPS:
        chunks = [Chunk(start, count, list(blocks)) for (start, count), blocks in zip(step, owned, strict=True)]
        layout, table = paged(chunks, BLOCK, PLACES // BLOCK)
        attention = NativePagedAttention(caches, layout, table)
        rows = sum(count for _, count in step)
        tokens = torch.arange(rows) * 7 % VOCABULARY
        adapters = mixed_adapters(model, rows) if adapted else None
        given = attention if whole else OneByOne(attention)
        states.append(model.forward(tokens, layout.positions(), given, adapters))
    return states, [tensor for pair in caches for tensor in pair]


def assert_same(found: Sequence[Tensor], expected: Sequence[Tensor]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("adapted", [False, True])
@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("family", SERVED)
def test_one_call_computes_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family: str, form: str, *, adapted: bool
) -> None:
    calls: list[bool] = []
    monkeypatch.setattr(native_layers.WholeStep, "run", counted(native_layers.WholeStep.run, calls))
    model = load(tmp_path, family, FORMATS[form])
    states, caches = run(model, whole=True, adapted=adapted)
    expected_states, expected_caches = run(model, whole=False, adapted=adapted)
    assert calls == [True] * len(STEPS) + [False] * len(STEPS)
    assert_same(states, expected_states)
    assert_same(caches, expected_caches)
    assert not torch.equal(states[0], states[0].flip(0))


def counted(method: Any, calls: list[bool]) -> Any:
    """Wrap `WholeStep.run`: each call's answer is appended."""

    def run_and_count(*arguments: Any) -> bool:
        calls.append(method(*arguments))
        return calls[-1]

    return run_and_count


@pytest.mark.parametrize("threads", [1, 2])
def test_a_row_that_is_not_finite_stays_alone(tmp_path: Path, threads: int) -> None:
    model = load(tmp_path, "llama", FORMATS["int8"])
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    sound, _ = run(model, whole=True, adapted=False)
    table = model._vocabulary.embed  # type: ignore[attr-defined]
    table.scales[0] = torch.nan  # the first sequence's first token in every step
    broken, _ = run(model, whole=True, adapted=False)
    torch.set_num_threads(before)
    counts = [[count for _, count in step] for step in STEPS]
    for one, other, (first, *_) in zip(broken, sound, counts, strict=True):
        assert one[0].isnan().all()
        assert torch.equal(one[first:], other[first:])


@pytest.mark.parametrize(
    ("family", "form"),
    [
        ("gemma3_text", FORMATS["int8"]),
        ("gpt2", FORMATS["int8"]),
        ("llama", Int8Format(native_quantize_rows, int8_linear)),
        ("llama", PackedFormat()),
    ],
    ids=["other norms", "no rotation", "products by oneDNN", "float32"],
)
def test_other_layers_are_computed_one_operation_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family: str, form: LinearFormat
) -> None:
    chosen: list[object] = []
    monkeypatch.setattr(
        "headmix_server.models.decoder.whole_step", lambda layers: chosen.append(native_layers.whole_step(layers))
    )
    load(tmp_path, family, form)
    assert chosen == [None]


def test_a_call_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    model = load(tmp_path, "llama", FORMATS["int8"])
    step = model._whole_step  # type: ignore[attr-defined]
    layers = step.layers
    layers._tensors.pop()
    with pytest.raises(RuntimeError, match="lack a tensor"):
        run(model, whole=True, adapted=False)
