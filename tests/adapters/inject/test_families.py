"""Adapters attach to every family, and what they add equals their dense form merged into a copy of the model."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import torch
from torch import Tensor, nn
from transformers import OPTConfig, OPTForCausalLM, PreTrainedModel

from harness.adapters.artifacts import adapter_config, classifier_config, random_tensors
from harness.adapters.mixed_sites import MIXED_SITES
from harness.bases.families import FAMILIES, TinyFamily
from headmix_adapters.base.folder import read_base_shape
from headmix_adapters.config import AdapterConfig, BaseShape, ClassifierConfig, Pooling, SharedPart, SiteConfig, Sites
from headmix_adapters.families import FAMILIES as TABLE
from headmix_adapters.inject import AttachError, ClassifierModel, LanguageModel, attach
from headmix_adapters.inject.backbone import backbone_of
from headmix_adapters.inject.split import split_backbone
from tests.adapters.inject.dense import merged

MLP_SITES = Sites(
    v=MIXED_SITES[0].v,
    gate_up=SiteConfig(shared=SharedPart(rank=3, scale=0.5)),
    down=SiteConfig(shared=SharedPart(rank=2)),
)


@pytest.fixture(scope="module", params=FAMILIES.values(), ids=list(FAMILIES))
def tiny(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[TinyFamily, PreTrainedModel, BaseShape]:
    folder: Path = tmp_path_factory.mktemp(request.param.model_type)
    model = request.param.make(folder)
    return request.param, model, read_base_shape("tiny", folder)


@pytest.fixture
def model(tiny: tuple[TinyFamily, PreTrainedModel, BaseShape]) -> Iterator[PreTrainedModel]:
    """The family's model; the test detaches what it attaches."""
    yield tiny[1]
    assert not any(type(module).__module__.startswith("headmix") for module in tiny[1].modules())


@pytest.fixture
def base(tiny: tuple[TinyFamily, PreTrainedModel, BaseShape]) -> BaseShape:
    return tiny[2]


@pytest.fixture
def ids() -> Tensor:
    return torch.randint(5, 500, (2, 11), generator=torch.Generator().manual_seed(5))


def states(model: PreTrainedModel, ids: Tensor, mask: Tensor | None = None) -> Tensor:
    result = backbone_of(model)(input_ids=ids, attention_mask=mask).last_hidden_state
    assert isinstance(result, Tensor)
    return result


def test_every_family_of_the_test_matrix_is_in_the_table() -> None:
    assert FAMILIES.keys() <= TABLE.keys()


@pytest.mark.parametrize("sites", [*MIXED_SITES, MLP_SITES])
@torch.no_grad()
def test_an_attached_adapter_equals_its_dense_form_merged_into_the_weights(
    model: PreTrainedModel, base: BaseShape, ids: Tensor, sites: Sites
) -> None:
    config = adapter_config(base, sites)
    tensors = random_tensors(config, seed=3)
    before = states(model, ids)
    expected = states(merged(model, config, tensors), ids)
    adapter = attach(model, config)
    adapter.load(tensors)
    actual = states(model, ids)
    adapter.detach()
    assert not torch.allclose(actual, before, atol=1e-3)
    torch.testing.assert_close(actual, expected, rtol=2e-4, atol=2e-4)
    assert torch.equal(states(model, ids), before)


@pytest.mark.parametrize("sites", [MIXED_SITES[0], MLP_SITES])
def test_gradients_reach_every_tensor_of_the_adapter(
    model: PreTrainedModel, base: BaseShape, ids: Tensor, sites: Sites
) -> None:
    config = adapter_config(base, sites)
    adapter = attach(model, config)
    adapter.load(random_tensors(config))
    torch.autograd.backward(states(model, ids).square().mean())
    adapter.detach()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in adapter.parameters())


@pytest.mark.parametrize("pooling", ["cls", "mean", "last"])
@torch.no_grad()
def test_a_classifier_pools_real_tokens_only(
    model: PreTrainedModel, base: BaseShape, ids: Tensor, pooling: Pooling
) -> None:
    classifier = ClassifierConfig(pooling=pooling, kind="mlp-tanh", labels=("a", "b", "c"))
    config = AdapterConfig(
        method="kernel-mix", task="classification", base=base, sites=MIXED_SITES[0], classifier=classifier
    )
    adapter = attach(model, config)
    adapter.load(random_tensors(config))
    head = ClassifierModel(model, adapter).eval()
    padded = torch.cat([ids[:1], torch.zeros(1, 4, dtype=torch.long)], dim=1)
    mask = torch.tensor([[1] * 11 + [0] * 4])
    alone = head(input_ids=ids[:1]).logits
    torch.testing.assert_close(head(input_ids=padded, attention_mask=mask).logits, alone, rtol=1e-4, atol=1e-4)
    adapter.detach()


@torch.no_grad()
def test_added_tokens_are_fed_and_scored_like_a_base_token_of_the_same_row(
    tiny: tuple[TinyFamily, PreTrainedModel, BaseShape], model: PreTrainedModel, ids: Tensor
) -> None:
    family, _, base = tiny
    config = adapter_config(base, Sites(), added_tokens=("<a>", "<b>"))
    if not family.causal:
        config = msgspec.structs.replace(config, task="classification", classifier=classifier_config())
    twin = ids[0, 3]
    embedding = model.get_input_embeddings()
    assert isinstance(embedding, nn.Embedding)
    row = embedding.weight[twin].clone()
    adapter = attach(model, config)
    tensors = random_tensors(config)
    adapter.load(tensors | {"added_tokens.embedding": torch.stack([torch.randn_like(row), row])})
    changed = ids.clone()
    changed[0, 3] = base.vocab_size + 1
    torch.testing.assert_close(states(model, changed), states(model, ids))
    if family.causal and model.config.tie_word_embeddings:
        logits = model(input_ids=ids).logits
        assert logits.shape[-1] == base.vocab_size + 2
        torch.testing.assert_close(logits[..., base.vocab_size + 1], logits[..., twin])
    adapter.detach()


@torch.no_grad()
def test_the_loss_is_the_models_own_capped_scores_included(tmp_path: Path, ids: Tensor) -> None:
    capped = FAMILIES["gemma3_text"].make(tmp_path, {"final_logit_softcapping": 3.0})
    config = adapter_config(read_base_shape("tiny", tmp_path), MIXED_SITES[0])
    adapter = attach(capped, config)
    adapter.load(random_tensors(config))
    language = LanguageModel(capped, adapter).eval()
    torch.testing.assert_close(language(input_ids=ids, labels=ids).loss, capped(input_ids=ids, labels=ids).loss)


def test_a_stack_is_cut_only_where_states_may_enter_in_the_middle(
    tiny: tuple[TinyFamily, PreTrainedModel, BaseShape], ids: Tensor
) -> None:
    family, model, _ = tiny
    split = split_backbone(backbone_of(model), 1)
    assert (split is not None) == (family.model_type in {"llama", "mistral", "qwen3"})
    if split is not None:
        mask = torch.ones_like(ids)
        entering = split.prefix_states(ids, mask)
        upper = split.upper(inputs_embeds=entering, attention_mask=mask).last_hidden_state
        torch.testing.assert_close(upper, states(model, ids, mask))


def test_an_mlp_of_another_kind_or_width_is_refused(model: PreTrainedModel, base: BaseShape) -> None:
    changes: tuple[dict[str, object], ...] = ({"gated_mlp": not base.gated_mlp}, {"intermediate_size": 40})
    for change in changes:
        config = adapter_config(msgspec.structs.replace(base, **change), MLP_SITES)
        with pytest.raises(AttachError, match=r"gate_up has|maps"):
            attach(model, config)
    attach(model, adapter_config(msgspec.structs.replace(base, intermediate_size=40), MIXED_SITES[0])).detach()


def test_a_model_type_that_is_not_in_the_table_is_refused_by_name(base: BaseShape) -> None:
    opt = OPTForCausalLM(OPTConfig(vocab_size=16, hidden_size=8, num_hidden_layers=1, ffn_dim=8, num_attention_heads=2))
    with pytest.raises(AttachError, match="do not attach to model type opt"):
        attach(opt, adapter_config(base, MIXED_SITES[0]))
