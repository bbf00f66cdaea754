"""Regrouping low-rank products preserves the product, whatever ranks, scales and zeros the modules have."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.adapters.artifacts import tiny_base_shape
from headmix_adapters.artifact import Limits
from headmix_adapters.convert.peft.lora_sites import build_sites, pieces_of
from headmix_adapters.convert.peft.module_lora import ModuleLora, Piece
from headmix_adapters.families import family_of
from headmix_adapters.sites import iter_terms

BASE = tiny_base_shape(intermediate_size=10)
MODULES = {"self_attn.q_proj": 32, "self_attn.v_proj": 16, "mlp.gate_proj": 10, "mlp.up_proj": 10}


@st.composite
def loras(draw: st.DrawFn) -> dict[tuple[int, str], ModuleLora]:
    """LoRAs on some modules of two layers, with some ranks that have no effect."""
    chosen: dict[tuple[int, str], ModuleLora] = {}
    for layer in (0, 1):
        for module in draw(st.sets(st.sampled_from(sorted(MODULES)))):
            rank, seed = draw(st.integers(1, 4)), draw(st.integers(0, 99))
            generator = torch.Generator().manual_seed(seed)
            B = torch.randn(MODULES[module], rank, generator=generator, dtype=torch.float64)
            B[:, draw(st.integers(0, rank - 1))] *= draw(st.sampled_from([0.0, 1.0]))
            A = torch.randn(rank, 32, generator=generator, dtype=torch.float64)
            chosen[layer, module] = ModuleLora(module, A, B, None, draw(st.sampled_from([0.5, 2.0])))
    return chosen


@settings(max_examples=60, deadline=None)
@given(loras())
def test_the_sum_of_products_stays_what_it_was(modules: dict[tuple[int, str], ModuleLora]) -> None:
    family = family_of("llama")
    pieces: dict[int, dict[str, list[Piece]]] = {}
    expected: dict[tuple[int, str], torch.Tensor] = {}
    for (layer, module), lora in modules.items():
        product = lora.scale * lora.B @ lora.A
        (part,) = family.modules[module]
        for site, piece in pieces_of(lora, (part,), BASE).items():
            pieces.setdefault(layer, {}).setdefault(site, []).append(piece)
        if part.site == "gate_up":
            total = expected.setdefault((layer, "gate_up"), torch.zeros(20, 32, dtype=torch.float64))
            first = 10 if part.skip else 0
            total[first : first + 10] += product
        else:
            expected[layer, part.site] = product
    result = build_sites(pieces, BASE, Limits(max_rank=8))
    for term in iter_terms(result.sites):
        for layer in pieces:
            prefix = f"layers.{layer}.{term.prefix}"
            made = term.scale * result.tensors[f"{prefix}.B"].double() @ result.tensors[f"{prefix}.A"].double()
            wanted = expected.pop((layer, term.term.site), torch.zeros_like(made))
            torch.testing.assert_close(made, wanted)
    assert not any(rest.any() for rest in expected.values())
