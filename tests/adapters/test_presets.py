"""The presets have exactly the authors' shapes and parameter counts."""

import pytest

from harness.adapters.artifacts import adapter_config, tiny_base_shape
from headmix_adapters.config import BaseShape, HeadPart, SharedPart, SiteConfig, Sites
from headmix_adapters.presets import PresetName, Ranks, kernel_mix_sites, preset_ranks
from headmix_adapters.sites import num_parameters


def twelve_by_twelve(model_type: str, vocab_size: int) -> BaseShape:
    """The dimensions that GPT-2 small and RoBERTa-base share."""
    sizes = {"hidden_size": 768, "num_layers": 12, "num_heads": 12, "num_kv_heads": 12, "head_dim": 64}
    return tiny_base_shape(model_type=model_type, vocab_size=vocab_size, **sizes)


@pytest.mark.parametrize(
    ("preset", "base", "parameters"),
    [
        ("gpt2-nlg", twelve_by_twelve("gpt2", 50257), 2_009_088),
        ("roberta-nlu", twelve_by_twelve("roberta", 50265), 608_256),
    ],
)
def test_a_preset_has_the_published_number_of_parameters(preset: PresetName, base: BaseShape, parameters: int) -> None:
    config = adapter_config(base, kernel_mix_sites(preset_ranks(preset)))
    assert num_parameters(config) == parameters


def test_the_gpt2_preset_adapts_q_on_x_v_on_the_key_and_o_on_the_attention_output() -> None:
    assert kernel_mix_sites(preset_ranks("gpt2-nlg")) == Sites(
        q=SiteConfig(head=HeadPart(rank=3, base="x"), shared=SharedPart(rank=12)),
        v=SiteConfig(head=HeadPart(rank=8, base="k"), shared=SharedPart(rank=8)),
        o=SiteConfig(head=HeadPart(rank=8, base="a"), shared=SharedPart(rank=8)),
    )


@pytest.mark.parametrize(("preset", "sites"), [("lite-qv", ["q", "v"]), ("lite-qvo", ["q", "v", "o"])])
def test_lite_presets_have_head_parts_alone(preset: PresetName, sites: list[str]) -> None:
    present = kernel_mix_sites(preset_ranks(preset)).present()
    assert list(present) == sites
    assert all(site.head is not None and site.shared is None for site in present.values())


def test_a_rank_of_zero_leaves_the_part_and_then_the_site_out() -> None:
    assert kernel_mix_sites(Ranks(0, 0, 0, 0)) == Sites()
    assert kernel_mix_sites(Ranks(0, 0, 2, 0)) == Sites(q=SiteConfig(shared=SharedPart(rank=2)))


def test_the_value_may_read_the_input_instead_of_the_key() -> None:
    sites = kernel_mix_sites(preset_ranks("lite-qv"), value_base="x")
    assert sites.v == SiteConfig(head=HeadPart(rank=8, base="x"))
