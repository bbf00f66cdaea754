"""Adapters in slots, with every storage and backend, compared with the reference row by row."""

from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import pytest
import torch
from torch import Tensor

from harness.adapters.artifacts import adapter_config, pack, random_tensors
from harness.adapters.mixed_sites import MIXED_SITES, MLP_SITES
from harness.bases.tiny_model import tiny_shape
from harness.engine.static_rig import fixed_storage
from headmix_adapters.artifact.parse import read_stored
from headmix_adapters.config import AdapterConfig
from headmix_adapters.reference import term_delta
from headmix_adapters.sites import iter_terms
from headmix_server.core.runner import Lease
from headmix_server.device.adapters.adapter_files import LoadedAdapter, from_stored
from headmix_server.device.adapters.adapter_image import AdapterImage
from headmix_server.device.adapters.adapter_pool import AdapterPool
from headmix_server.device.adapters.choose_storage import make_storage
from headmix_server.device.adapters.image_storage import ImageStorage
from headmix_server.device.adapters.slot_storage import SlotStorage
from headmix_server.device.adapters.term_storage import TermStorage
from headmix_server.kernels.adapters.image_reference import ReferenceAdapters
from headmix_server.kernels.adapters.slot_span import SlotSpan

BASE = msgspec.structs.replace(tiny_shape(), intermediate_size=48)
WIDTHS = {"q": 48, "k": 24, "v": 24, "o": 32, "gate_up": 96, "down": 32}
SITES = (*MIXED_SITES, MLP_SITES)


@dataclass(frozen=True, slots=True)
class Artifact:
    """What a file would contain, and what is loaded from it."""

    config: AdapterConfig
    layers: tuple[int, ...]
    tensors: dict[str, Tensor]
    loaded: LoadedAdapter


def make_adapter(
    seed: int,
    layers: tuple[int, ...] = (0, 1, 2),
    dtype: torch.dtype = torch.float32,
    added: Tensor | None = None,
) -> Artifact:
    """Draw an adapter with digest sha256:<seed>; `added` [n, D] are the rows of tokens it adds."""
    config = adapter_config(BASE, SITES[seed % len(SITES)])
    tensors = {name: tensor.to(dtype) for name, tensor in random_tensors(config, seed, layers).items()}
    rest = {}
    if added is not None:
        config = msgspec.structs.replace(config, added_tokens=tuple(f"<{row}>" for row in range(len(added))))
        rest["added_tokens.embedding"] = added
    loaded = from_stored(f"sha256:{seed}", read_stored(bytearray(pack(config, tensors | rest))))
    return Artifact(config, layers, tensors, loaded)


@pytest.fixture(params=["terms", "images", "fixed"])
def make_pool(request: pytest.FixtureRequest) -> Callable[[int], AdapterPool]:
    def make(num_slots: int) -> AdapterPool:
        storage: SlotStorage
        if request.param == "terms":
            storage = TermStorage(BASE, num_slots, torch.float32)
        elif request.param == "fixed":
            storage = fixed_storage(BASE, num_slots)
        elif request.param == "images":
            storage = ImageStorage(BASE, num_slots, ReferenceAdapters)
        else:
            storage = make_storage("native", BASE, num_slots, torch.float32)
        return AdapterPool(storage, torch.float32, torch.device("cpu"))

    return make


def reference_delta(adapter: Artifact, layer: int, site: str, inputs: dict[str, Tensor]) -> Tensor:
    """Return what one adapter adds to its rows at one site, by the reference."""
    total = torch.zeros(inputs["x"].shape[0], WIDTHS[site])
    for term in iter_terms(adapter.config.sites):
        if term.term.site == site and layer in adapter.layers:
            prefix = f"layers.{layer}.{term.prefix}"
            mine = {n: adapter.tensors[f"{prefix}.{n}"].float() for n in ("A", "B")}
            bias = adapter.tensors[f"{prefix}.bias"].float() if term.has_bias else None
            total += term_delta(term, inputs[term.term.input], mine["A"], mine["B"], bias)
    return total


def pool_deltas(pool: AdapterPool, spans: list[SlotSpan], inputs: dict[str, Tensor], layer: int) -> dict[str, Tensor]:
    step = pool.route(spans)
    assert step is not None
    out = {site: torch.zeros(inputs["x"].shape[0], width) for site, width in WIDTHS.items()}
    qkv = torch.cat([out["q"], inputs["k"], out["v"]], dim=-1)
    step.add_qkv(layer, inputs["x"], qkv)
    out["q"], key, out["v"] = torch.split(qkv, [WIDTHS["q"], WIDTHS["k"], WIDTHS["v"]], dim=-1)
    out["k"] = key - inputs["k"]
    step.add_o(layer, inputs["a"], out["o"])
    step.add_gate_up(layer, inputs["m"], out["gate_up"])
    step.add_down(layer, inputs["i"], out["down"])
    return out


def random_inputs(tokens: int) -> dict[str, Tensor]:
    torch.manual_seed(5)
    widths = {"x": 32, "k": 24, "a": 48, "m": 32, "i": 48}
    return {name: torch.randn(tokens, width) for name, width in widths.items()}


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_a_mixed_batch_adds_to_each_row_what_the_reference_says_for_its_adapter(
    layer: int, make_pool: Callable[[int], AdapterPool]
) -> None:
    adapters = {
        slot: make_adapter(slot, (0, 1, 2) if slot % 2 else (1,), torch.bfloat16 if slot in (3, 4) else torch.float32)
        for slot in range(7)
    }
    pool = make_pool(8)
    for slot, adapter in adapters.items():
        pool.install(slot, 1, adapter.loaded)
    spans = [
        SlotSpan(0, 1, 1),
        SlotSpan(3, 2, 40),
        SlotSpan(1, 42, 1),
        SlotSpan(5, 45, 3),
        SlotSpan(2, 48, 1),
        SlotSpan(4, 49, 2),
        SlotSpan(3, 51, 1),
        SlotSpan(6, 52, 4),
    ]  # rows 0, 43, 44: base
    inputs = random_inputs(56)
    out = pool_deltas(pool, spans, inputs, layer)
    for site, width in WIDTHS.items():
        expected = torch.zeros(56, width)
        for slot, first, count, *_ in spans:
            rows = slice(first, first + count)
            mine = {name: value[rows] for name, value in inputs.items()}
            expected[rows] = reference_delta(adapters[slot], layer, site, mine)
        torch.testing.assert_close(out[site], expected, atol=1e-5, rtol=1e-5)


def test_a_slot_used_again_shows_nothing_of_its_former_adapter(make_pool: Callable[[int], AdapterPool]) -> None:
    pool = make_pool(2)
    inputs = random_inputs(3)
    for seed in (0, 3, 5, 1, 4, 2, 5, 0):
        adapter = make_adapter(seed)
        pool.install(1, seed, adapter.loaded)
        out = pool_deltas(pool, [SlotSpan(1, 0, 3)], inputs, layer=2)
        for site in WIDTHS:
            torch.testing.assert_close(out[site], reference_delta(adapter, 2, site, inputs), atol=1e-5, rtol=1e-5)
        pool.clear(1)


def test_a_lease_of_another_generation_or_digest_finds_nothing(make_pool: Callable[[int], AdapterPool]) -> None:
    pool = make_pool(2)
    pool.install(0, 7, make_adapter(1).loaded)
    assert pool.occupant(Lease(0, 7, 1, "sha256:1")) is not None
    assert pool.occupant(Lease(0, 6, 1, "sha256:1")) is None
    assert pool.occupant(Lease(0, 7, 1, "sha256:2")) is None
    assert pool.occupant(Lease(1, 7, 1, "sha256:1")) is None


def test_installing_into_an_occupied_slot_is_refused(make_pool: Callable[[int], AdapterPool]) -> None:
    pool = make_pool(1)
    pool.install(0, 1, make_adapter(1).loaded)
    with pytest.raises(RuntimeError, match="not empty"):
        pool.install(0, 2, make_adapter(2).loaded)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_an_adapter_is_computed_in_float32_from_the_precision_it_is_stored_in(
    dtype: torch.dtype, make_pool: Callable[[int], AdapterPool]
) -> None:
    adapter = make_adapter(0, dtype=dtype)
    pool = make_pool(1)
    pool.install(0, 1, adapter.loaded)
    inputs = random_inputs(2)
    out = pool_deltas(pool, [SlotSpan(0, 0, 2)], inputs, layer=0)
    torch.testing.assert_close(out["q"], reference_delta(adapter, 0, "q", inputs), atol=1e-5, rtol=1e-5)


def test_a_failed_installation_leaves_the_slot_empty_and_clean(
    make_pool: Callable[[int], AdapterPool], monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = make_pool(1)
    put = pool._storage.put

    def tear(slot: int, image: AdapterImage) -> None:
        put(slot, image)
        raise MemoryError("no more")

    with monkeypatch.context() as patch:
        patch.setattr(pool._storage, "put", tear)
        with pytest.raises(MemoryError):
            pool.install(0, 1, make_adapter(0).loaded)
    whole = make_adapter(1)
    pool.install(0, 2, whole.loaded)
    inputs = random_inputs(2)
    out = pool_deltas(pool, [SlotSpan(0, 0, 2)], inputs, layer=1)
    for site in WIDTHS:
        torch.testing.assert_close(out[site], reference_delta(whole, 1, site, inputs), atol=1e-5, rtol=1e-5)


def test_a_cleared_slot_adds_nothing(make_pool: Callable[[int], AdapterPool]) -> None:
    pool = make_pool(2)
    pool.install(0, 1, make_adapter(0).loaded)
    pool.clear(0)
    out = pool_deltas(pool, [SlotSpan(0, 0, 2)], random_inputs(2), layer=1)
    assert all(not out[site].any() for site in WIDTHS)


def test_added_rows_belong_to_one_use_of_the_slot(make_pool: Callable[[int], AdapterPool]) -> None:
    rows = torch.randn(2, 32, dtype=torch.float64)
    adding = make_adapter(0, added=rows)
    pool = make_pool(1)
    pool.install(0, 1, adding.loaded)
    occupant = pool.occupant(Lease(0, 1, 1, "sha256:0"))
    assert occupant is not None
    assert occupant.added is not None
    assert occupant.added.equal(rows.float())
    pool.clear(0)
    pool.install(0, 2, make_adapter(0).loaded)
    assert pool.occupant(Lease(0, 1, 1, "sha256:0")) is None
    successor = pool.occupant(Lease(0, 2, 1, "sha256:0"))
    assert successor is not None
    assert successor.added is None
