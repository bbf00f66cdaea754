"""An attached adapter computes what the paper's table says, trains only itself and leaves no trace when detached."""

import msgspec
import pytest
import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from harness.adapters.artifacts import adapter_config, random_tensors
from harness.adapters.mixed_sites import MIXED_SITES
from harness.bases.tiny_model import tiny_shape
from headmix_adapters.config import AdapterConfig, Sites
from headmix_adapters.inject import AttachError, attach
from headmix_adapters.inject.initial import folded_normal
from headmix_adapters.sites import tensor_shapes
from headmix_adapters.train.adapter_spec import adapter_sites
from headmix_adapters.train.recipe.recipe import AdapterTable

H, G, P = 4, 2, 12


def config_of(sites: Sites) -> AdapterConfig:
    return adapter_config(tiny_shape(), sites)


def slow_delta(tensors: dict[str, Tensor], sites: Sites, site: str, x: Tensor, key: Tensor, a: Tensor) -> Tensor:
    """One layer's addition at a site for one token, head by head in plain loops that use nothing from the package."""
    settings = sites.present()[site]
    width = {"q": H * P, "k": G * P, "v": G * P, "o": 32}[site]
    total = torch.zeros(width)
    if settings.head is not None:
        A, B = tensors[f"{site}.head.A"], tensors[f"{site}.head.B"]
        delta = torch.zeros(width)
        for h in range(A.shape[0]):
            source = {"x": x, "k": key[h * P : (h + 1) * P], "a": a[h * P : (h + 1) * P]}[settings.head.base]
            term = B[h] @ (A[h] @ source)
            if site == "o":
                delta += term
            else:
                delta[h * P : (h + 1) * P] += term
        if settings.head.bias:
            delta += tensors[f"{site}.head.bias"].reshape(-1)
        total += settings.head.scale * delta
    if settings.shared is not None:
        source = a if site == "o" else x
        total += settings.shared.scale * (tensors[f"{site}.shared.B"] @ (tensors[f"{site}.shared.A"] @ source))
    return total


@pytest.mark.parametrize("sites", MIXED_SITES)
@torch.no_grad()
def test_every_projection_equals_a_recomputation_head_by_head(model: LlamaForCausalLM, sites: Sites) -> None:
    config = config_of(sites)
    attention = model.model.layers[1].self_attn
    originals = {site: getattr(attention, f"{site}_proj") for site in "qkvo"}
    tensors = random_tensors(config, seed=3)
    attach(model, config).load(tensors)
    layer = {name.removeprefix("layers.1."): tensor for name, tensor in tensors.items() if name.startswith("layers.1.")}
    x, a = torch.randn(32), torch.randn(H * P)
    key = originals["k"](x)
    for site, original in originals.items():
        source = a if site == "o" else x
        expected = original(source)
        if site in sites.present():
            expected = expected + slow_delta(layer, sites, site, x, key, a)
        torch.testing.assert_close(getattr(attention, f"{site}_proj")(source), expected)


@torch.no_grad()
def test_the_values_base_key_includes_the_keys_bias_and_ignores_a_key_adapter() -> None:
    torch.manual_seed(0)
    raw = LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=16, num_hidden_layers=1, num_attention_heads=4,
        num_key_value_heads=2, head_dim=12, attention_bias=True,
    )  # fmt: skip
    biased = LlamaForCausalLM(raw)
    attention = biased.model.layers[0].self_attn
    nn.init.normal_(attention.k_proj.bias)
    sites = Sites(k=MIXED_SITES[4].k, v=MIXED_SITES[1].v)
    config = adapter_config(msgspec.structs.replace(tiny_shape(), num_layers=1), sites)
    x = torch.randn(32)
    key, value = attention.k_proj(x), attention.v_proj(x)
    tensors = random_tensors(config)
    attach(biased, config).load(tensors)
    layer = {name.removeprefix("layers.0."): tensor for name, tensor in tensors.items()}
    torch.testing.assert_close(attention.v_proj(x), value + slow_delta(layer, sites, "v", x, key, torch.zeros(48)))


@pytest.mark.parametrize("sites", MIXED_SITES)
@torch.no_grad()
def test_zero_up_projections_and_biases_leave_the_base_bit_for_bit(
    model: LlamaForCausalLM, ids: Tensor, sites: Sites
) -> None:
    expected = model(input_ids=ids).logits
    config = config_of(sites)
    adapter = attach(model, config)
    tensors = random_tensors(config)
    adapter.load({name: t * 0 if name.endswith((".B", ".bias")) else t for name, t in tensors.items()})
    assert torch.equal(model(input_ids=ids).logits, expected)


@pytest.mark.parametrize("sites", MIXED_SITES)
def test_gradients_reach_every_adapter_tensor_and_no_base_tensor(
    model: LlamaForCausalLM, ids: Tensor, sites: Sites
) -> None:
    base = list(model.parameters())
    config = config_of(sites)
    adapter = attach(model, config, seed=1)
    adapter.load(random_tensors(config))
    model(input_ids=ids).logits.square().mean().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in adapter.parameters())
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in base)


def test_nothing_below_the_lowest_adapted_layer_takes_part_in_the_backward_pass(
    model: LlamaForCausalLM, ids: Tensor
) -> None:
    attach(model, config_of(MIXED_SITES[0]), [2])
    states = model(input_ids=ids, output_hidden_states=True).hidden_states
    assert states is not None
    assert [state.requires_grad for state in states] == [False, False, False, True]


@torch.no_grad()
def test_detach_restores_modules_results_and_gradient_flags(model: LlamaForCausalLM, ids: Tensor) -> None:
    model.model.norm.weight.requires_grad_(False)
    before = model(input_ids=ids).logits
    modules = dict(model.named_modules())
    flags = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    config = AdapterConfig(
        method="kernel-mix", task="generation", base=tiny_shape(), sites=MIXED_SITES[0], added_tokens=("<new>",)
    )
    adapter = attach(model, config)
    adapter.load(random_tensors(config))
    assert not torch.equal(model(input_ids=ids).logits[..., :512], before)
    adapter.detach()
    adapter.detach()
    assert dict(model.named_modules()) == modules
    assert {name: parameter.requires_grad for name, parameter in model.named_parameters()} == flags
    assert torch.equal(model(input_ids=ids).logits, before)


@torch.no_grad()
def test_shared_terms_equal_low_rank_updates_merged_into_the_weights(model: LlamaForCausalLM, ids: Tensor) -> None:
    config = config_of(MIXED_SITES[2])
    adapter = attach(model, config)
    tensors = random_tensors(config)
    adapter.load(tensors)
    attached = model(input_ids=ids).logits
    adapter.detach()
    for site, settings in config.sites.present().items():
        for index, layer in enumerate(model.model.layers):
            assert settings.shared is not None
            A, B = (tensors[f"layers.{index}.{site}.shared.{name}"] for name in "AB")
            getattr(layer.self_attn, f"{site}_proj").weight += settings.shared.scale * B @ A
    torch.testing.assert_close(model(input_ids=ids).logits, attached, rtol=1e-4, atol=1e-4)


def test_tensors_have_the_artifacts_names_and_shapes_for_the_chosen_layers(model: LlamaForCausalLM) -> None:
    config = config_of(MIXED_SITES[0])
    tensors = attach(model, config, [0, 2]).tensors()
    assert {name: tuple(tensor.shape) for name, tensor in tensors.items()} == tensor_shapes(config, (0, 2))


def test_first_values_are_a_normal_folded_at_two_deviations_times_a_hundredth() -> None:
    values = folded_normal((200_000,), torch.Generator().manual_seed(0))
    assert values.abs().max() <= 0.02
    assert abs(values.mean()) < 1e-4
    normal = torch.randn(200_000, generator=torch.Generator().manual_seed(1))
    expected = (normal - 2 * torch.trunc(normal / 2)) / 100
    assert abs(values.std() - expected.std()) < 1e-4


def test_a_lora_starts_as_the_base_with_a_spread_out_down_projection(model: LlamaForCausalLM, ids: Tensor) -> None:
    expected = model(input_ids=ids).logits
    adapter = attach(model, msgspec.structs.replace(config_of(MIXED_SITES[2]), method="lora"))
    assert torch.equal(model(input_ids=ids).logits, expected)
    down = adapter.tensors()["layers.0.q.shared.A"]
    assert 0.9 / 32**0.5 < down.abs().max() <= 1 / 32**0.5


def test_a_block_diagonal_lora_starts_as_the_base_within_pefts_bounds(model: LlamaForCausalLM, ids: Tensor) -> None:
    expected = model(input_ids=ids).logits
    table = AdapterTable(method="bd-lora", rank=2, sites=("q", "v", "o"))
    adapter = attach(model, config_of(adapter_sites(table)))
    assert torch.equal(model(input_ids=ids).logits, expected)
    drawn = adapter.tensors()
    assert not any(name.endswith("bias") for name in drawn)
    for site, bound in {"q": (1 / 32) ** 0.5, "v": (1 / 32) ** 0.5, "o": (6 / P) ** 0.5}.items():
        assert 0.9 * bound < drawn[f"layers.0.{site}.head.A"].abs().max() <= bound


def test_the_same_seed_draws_the_same_adapter(model: LlamaForCausalLM) -> None:
    config = config_of(MIXED_SITES[0])
    drawn = []
    for seed in (1, 1, 2):
        adapter = attach(model, config, seed=seed)
        drawn.append(adapter.tensors())
        adapter.detach()
    assert all(torch.equal(drawn[0][name], drawn[1][name]) for name in drawn[0])
    assert not any(torch.equal(drawn[0][name], drawn[2][name]) for name in drawn[0])


def test_dropout_acts_while_training_only(model: LlamaForCausalLM, ids: Tensor) -> None:
    config = config_of(MIXED_SITES[0])
    attach(model, config, dropout=0.5).load(random_tensors(config))
    first, second = (model(input_ids=ids).logits for _ in range(2))
    assert torch.equal(first, second)
    model.train()
    assert not torch.equal(model(input_ids=ids).logits, model(input_ids=ids).logits)


def test_added_tokens_are_read_and_predicted_beside_the_bases_own(model: LlamaForCausalLM) -> None:
    config = AdapterConfig(
        method="kernel-mix", task="generation", base=tiny_shape(), sites=Sites(), added_tokens=("<a>", "<b>")
    )
    adapter = attach(model, config)
    known = torch.tensor([[5, 6, 7]])
    expected = model(input_ids=known).logits
    rows = torch.randn(2, 32)
    rows[1] = model.model.embed_tokens.embedding.weight[6]
    adapter.load({"added_tokens.embedding": rows})
    logits = model(input_ids=torch.tensor([[5, 513, 7]])).logits
    torch.testing.assert_close(logits[..., :512], expected[..., :512])
    torch.testing.assert_close(logits[..., 513], logits[..., 6])
    logits.sum().backward()
    (parameter,) = adapter.parameters()
    assert parameter.grad is not None


@pytest.mark.parametrize(
    ("change", "message"),
    [({"num_layers": 4}, "4 layers"), ({"head_dim": 8}, "q_proj"), ({"hidden_size": 16}, "q_proj")],
)
def test_a_model_of_other_dimensions_is_refused_and_left_alone(
    model: LlamaForCausalLM, change: dict[str, int], message: str
) -> None:
    config = adapter_config(msgspec.structs.replace(tiny_shape(), **change), MIXED_SITES[0])
    modules = dict(model.named_modules())
    with pytest.raises(AttachError, match=message):
        attach(model, config)
    assert dict(model.named_modules()) == modules


def test_a_second_adapter_and_layers_that_do_not_exist_are_refused(model: LlamaForCausalLM) -> None:
    config = config_of(MIXED_SITES[0])
    with pytest.raises(AttachError, match=r"layers \[1, 3\]"):
        attach(model, config, [1, 3])
    attach(model, config)
    with pytest.raises(AttachError, match="found AdaptedProjection"):
        attach(model, config)


def test_load_refuses_missing_unknown_and_misshapen_tensors_and_changes_nothing(model: LlamaForCausalLM) -> None:
    config = config_of(MIXED_SITES[0])
    adapter = attach(model, config)
    before = adapter.tensors()
    good = random_tensors(config)
    name = "layers.2.o.shared.B"
    for wrong in (
        {key: value for key, value in good.items() if key != name},
        good | {"layers.9.q.head.A": good[name]},
        good | {name: good[name].T},
    ):
        with pytest.raises(AttachError, match="layers"):
            adapter.load(wrong)
    assert all(torch.equal(tensor, before[key]) for key, tensor in adapter.tensors().items())
