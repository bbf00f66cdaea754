"""The routed fast path (arena, route, batched terms) against the reference, row by row."""

import msgspec
import pytest
import torch
from torch import Tensor

from headmix_adapters.config import SharedPart, SiteConfig, Sites
from headmix_adapters.reference import term_delta
from headmix_adapters.sites import iter_terms
from headmix_server.core.runner import Lease
from headmix_server.device.adapter_files import LoadedAdapter
from headmix_server.device.adapter_pool import AdapterPool
from tests.support.adapters import MIXED_SITES
from tests.support.artifacts import adapter_config, random_tensors
from tests.support.tiny_model import tiny_shape

BASE = msgspec.structs.replace(tiny_shape(), intermediate_size=48)
WIDTHS = {"q": 48, "k": 24, "v": 24, "o": 32, "gate_up": 96, "down": 32}
MLP_SITES = Sites(
    gate_up=SiteConfig(shared=SharedPart(rank=3, scale=0.5)), down=SiteConfig(shared=SharedPart(rank=2, scale=2.0))
)
SITES = (*MIXED_SITES, MLP_SITES)


def make_adapter(seed: int, layers: tuple[int, ...] = (0, 1, 2)) -> LoadedAdapter:
    config = adapter_config(BASE, SITES[seed % len(SITES)])
    return LoadedAdapter(f"sha256:{seed}", config, layers, random_tensors(config, seed, layers))


def reference_delta(adapter: LoadedAdapter, layer: int, site: str, inputs: dict[str, Tensor]) -> Tensor:
    """What one adapter adds at one site to its rows, by the reference."""
    total = torch.zeros(inputs["x"].shape[0], WIDTHS[site])
    for term in iter_terms(adapter.config.sites):
        if term.term.site == site and layer in adapter.layers:
            tensors = {n: adapter.tensors.get(f"layers.{layer}.{term.prefix}.{n}") for n in ("A", "B", "bias")}
            A, B = tensors["A"], tensors["B"]
            assert A is not None
            assert B is not None
            total += term_delta(term, inputs[term.term.input], A, B, tensors["bias"])
    return total


def pool_deltas(
    pool: AdapterPool, spans: list[tuple[int, int, int]], inputs: dict[str, Tensor], layer: int
) -> dict[str, Tensor]:
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
def test_a_mixed_batch_adds_to_each_row_what_the_reference_says_for_its_adapter(layer: int) -> None:
    adapters = {slot: make_adapter(slot, (0, 1, 2) if slot % 2 else (1,)) for slot in range(7)}
    pool = AdapterPool(BASE, num_slots=8, dtype=torch.float32)
    for slot, adapter in adapters.items():
        pool.install(slot, 1, adapter)
    spans = [
        (0, 1, 1),
        (3, 2, 40),
        (1, 42, 1),
        (5, 45, 3),
        (2, 48, 1),
        (4, 49, 2),
        (3, 51, 1),
        (6, 52, 4),
    ]  # rows 0, 43, 44: base
    inputs = random_inputs(56)
    out = pool_deltas(pool, spans, inputs, layer)
    for site, width in WIDTHS.items():
        expected = torch.zeros(56, width)
        for slot, first, count in spans:
            rows = slice(first, first + count)
            mine = {name: value[rows] for name, value in inputs.items()}
            expected[rows] = reference_delta(adapters[slot], layer, site, mine)
        torch.testing.assert_close(out[site], expected, atol=1e-5, rtol=1e-5)


def test_a_slot_used_again_shows_nothing_of_its_former_adapter() -> None:
    pool = AdapterPool(BASE, num_slots=2, dtype=torch.float32)
    inputs = random_inputs(3)
    for seed in (0, 3, 5, 1, 4, 2, 5, 0):
        adapter = make_adapter(seed)
        pool.install(1, seed, adapter)
        out = pool_deltas(pool, [(1, 0, 3)], inputs, layer=2)
        for site in WIDTHS:
            torch.testing.assert_close(out[site], reference_delta(adapter, 2, site, inputs), atol=1e-5, rtol=1e-5)
        pool.clear(1)


def test_a_lease_of_another_generation_or_digest_finds_nothing() -> None:
    pool = AdapterPool(BASE, num_slots=2, dtype=torch.float32)
    pool.install(0, 7, make_adapter(1))
    assert pool.occupant(Lease(0, 7, 1, "sha256:1")) is not None
    assert pool.occupant(Lease(0, 6, 1, "sha256:1")) is None
    assert pool.occupant(Lease(0, 7, 1, "sha256:2")) is None
    assert pool.occupant(Lease(1, 7, 1, "sha256:1")) is None


def test_installing_into_an_occupied_slot_is_refused() -> None:
    pool = AdapterPool(BASE, num_slots=1, dtype=torch.float32)
    pool.install(0, 1, make_adapter(1))
    with pytest.raises(RuntimeError, match="not empty"):
        pool.install(0, 2, make_adapter(2))


def test_an_adapter_is_widened_from_the_precision_it_is_stored_in() -> None:
    adapter = make_adapter(0)
    halved = LoadedAdapter(
        adapter.digest, adapter.config, adapter.layers, {n: t.bfloat16() for n, t in adapter.tensors.items()}
    )
    exact = LoadedAdapter(
        adapter.digest, adapter.config, adapter.layers, {n: t.float() for n, t in halved.tensors.items()}
    )
    pool = AdapterPool(BASE, num_slots=1, dtype=torch.float32)
    pool.install(0, 1, halved)
    inputs = random_inputs(2)
    out = pool_deltas(pool, [(0, 0, 2)], inputs, layer=0)
    torch.testing.assert_close(out["q"], reference_delta(exact, 0, "q", inputs), atol=1e-5, rtol=1e-5)


def test_a_failed_installation_leaves_the_slot_empty_and_clean() -> None:
    pool = AdapterPool(BASE, num_slots=1, dtype=torch.float32)
    torn = make_adapter(0)
    tensors = {name: tensor for name, tensor in torn.tensors.items() if name != "layers.2.o.shared.B"}
    with pytest.raises(KeyError):
        pool.install(0, 1, LoadedAdapter(torn.digest, torn.config, torn.layers, tensors))
    whole = make_adapter(1)
    pool.install(0, 2, whole)
    inputs = random_inputs(2)
    out = pool_deltas(pool, [(0, 0, 2)], inputs, layer=1)
    for site in WIDTHS:
        torch.testing.assert_close(out[site], reference_delta(whole, 1, site, inputs), atol=1e-5, rtol=1e-5)


def test_added_rows_belong_to_one_use_of_the_slot() -> None:
    adding = make_adapter(0)
    config = msgspec.structs.replace(adding.config, added_tokens=("<a>", "<b>"))
    rows = torch.randn(2, 32, dtype=torch.float64)
    tensors = adding.tensors | {"added_tokens.embedding": rows}
    pool = AdapterPool(BASE, num_slots=1, dtype=torch.float32)
    pool.install(0, 1, LoadedAdapter(adding.digest, config, adding.layers, tensors))
    occupant = pool.occupant(Lease(0, 1, 1, adding.digest))
    assert occupant is not None
    assert occupant.added is not None
    assert occupant.added.equal(rows.float())
    pool.clear(0)
    pool.install(0, 2, adding)
    assert pool.occupant(Lease(0, 1, 1, adding.digest)) is None
    successor = pool.occupant(Lease(0, 2, 1, adding.digest))
    assert successor is not None
    assert successor.added is None
