"""An artifact loaded into a model: the same tensors, generation with a cache, classification by the head's rules."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from transformers import LlamaForCausalLM

from harness.adapters.artifacts import adapter_config, classifier_config, random_artifact, random_tensors
from harness.adapters.mixed_sites import MIXED_SITES
from harness.bases.tiny_model import tiny_shape
from headmix_adapters.artifact.load import load_tensors
from headmix_adapters.artifact.write import write_artifact
from headmix_adapters.config import ClassifierConfig, Pooling, Problem, Sites
from headmix_adapters.inject import AttachError, ClassifierModel, LanguageModel, attach, load_adapter
from headmix_adapters.inject.backbone import backbone_of
from headmix_adapters.inject.classifier import problem_loss
from headmix_adapters.inject.split import split_backbone


def test_an_artifact_comes_back_as_it_was_attached(model: LlamaForCausalLM, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    config = adapter_config(tiny_shape(), MIXED_SITES[0])
    adapter = attach(model, config, [1, 2], seed=4)
    written = adapter.tensors()
    write_artifact(path, config, written, torch.float32)
    adapter.detach()
    loaded = load_adapter(model, path)
    assert loaded.adapter.layers == (1, 2)
    assert all(torch.equal(tensor, written[name]) for name, tensor in loaded.adapter.tensors().items())
    assert load_tensors(path).keys() == loaded.state_dict().keys()


@pytest.mark.parametrize("sites", MIXED_SITES)
@torch.no_grad()
def test_greedy_generation_with_a_cache_equals_recomputing_every_step(
    model: LlamaForCausalLM, ids: Tensor, tmp_path: Path, sites: Sites
) -> None:
    path = tmp_path / "a.safetensors"
    random_artifact(path, tiny_shape(), sites, scale=0.3)
    loaded = load_adapter(model, path)
    assert isinstance(loaded, LanguageModel)
    prompt = ids[:1]
    generated = loaded.generate(
        prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=8, do_sample=False, eos_token_id=None
    )
    current = prompt
    for _ in range(8):
        scores = loaded(input_ids=current, use_cache=False).logits[:, -1]
        current = torch.cat([current, scores.argmax(dim=-1, keepdim=True)], dim=1)
    assert torch.equal(generated, current)


def classifier_of(model: LlamaForCausalLM, head: ClassifierConfig, label_smoothing: float = 0.0) -> ClassifierModel:
    config = adapter_config(tiny_shape(), MIXED_SITES[0], task="classification", classifier=head)
    adapter = attach(model, config)
    adapter.load(random_tensors(config))
    classifier = ClassifierModel(model, adapter, label_smoothing=label_smoothing)
    classifier.train(mode=False)
    return classifier


@pytest.mark.parametrize("kind", ["linear", "mlp-tanh"])
@pytest.mark.parametrize(("pooling", "position"), [("last", -1), ("cls", 0), ("mean", None)])
@torch.no_grad()
def test_each_text_is_classified_from_its_own_tokens_whatever_the_padding(
    model: LlamaForCausalLM, ids: Tensor, pooling: Pooling, position: int | None, kind: str
) -> None:
    classifier = classifier_of(model, classifier_config("a", "b", "c", pooling=pooling, kind=kind))
    tensors = classifier.adapter.tensors()
    short = ids[:1, :5]
    states = backbone_of(model)(input_ids=short).last_hidden_state[0]
    pooled = states.mean(dim=0) if position is None else states[position]
    if kind == "mlp-tanh":
        pooled = torch.tanh(tensors["classifier.dense.weight"] @ pooled + tensors["classifier.dense.bias"])
    expected = tensors["classifier.out_proj.weight"] @ pooled + tensors["classifier.out_proj.bias"]
    right = torch.cat([torch.nn.functional.pad(short, (0, 4)), ids[1:]])
    mask = torch.tensor([[1] * 5 + [0] * 4, [1] * 9])
    left = torch.cat([torch.nn.functional.pad(short, (4, 0)), ids[1:]])
    assert classifier(input_ids=short).logits.shape == (1, 3)
    for batch, own in ((right, mask), (left, torch.tensor([[0] * 4 + [1] * 5, [1] * 9]))):
        logits = classifier(input_ids=batch, attention_mask=own).logits
        torch.testing.assert_close(logits[0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("problem", "labels"),
    [
        ("single_label", torch.tensor([2, 0])),
        ("multi_label", torch.tensor([[1.0, 0, 1], [0, 0, 0]])),
        ("regression", torch.tensor([[0.5, -1, 2], [0, 0, 1]])),
    ],
)
def test_the_loss_is_the_problems_own(model: LlamaForCausalLM, ids: Tensor, problem: Problem, labels: Tensor) -> None:
    classifier = classifier_of(model, classifier_config("a", "b", "c", problem=problem))
    output = classifier(input_ids=ids, labels=labels)
    functions: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "single_label": nn.functional.cross_entropy,
        "multi_label": nn.functional.binary_cross_entropy_with_logits,
        "regression": nn.functional.mse_loss,
    }
    assert output.loss is not None
    torch.testing.assert_close(output.loss, functions[problem](output.logits, labels))


def test_class_weights_change_the_losss_gradient_and_not_its_value(model: LlamaForCausalLM, ids: Tensor) -> None:
    plain = classifier_of(model, classifier_config("a", "b", "c"))
    labels = torch.tensor([2, 0])
    weighted = ClassifierModel(model, plain.adapter, class_weights=[0.5, 1.0, 3.0])
    found = []
    for classifier in (plain, weighted):
        classifier.train()
        output = classifier(input_ids=ids, labels=labels)
        output.logits.retain_grad()
        output.loss.backward()
        found.append((float(output.loss.detach()), output.logits.grad))
    (value, gradient), (same, scaled) = found
    assert same == pytest.approx(value)
    torch.testing.assert_close(scaled, gradient * torch.tensor([[3.0], [0.5]]))


def test_label_smoothing_moves_each_label_towards_the_uniform() -> None:
    logits = torch.tensor([[2.0, -1.0]])
    expected = nn.functional.cross_entropy(logits, torch.tensor([[0.95, 0.05]]))
    torch.testing.assert_close(problem_loss("single_label", logits, torch.tensor([0]), 0.1), expected)
    expected = nn.functional.binary_cross_entropy_with_logits(logits, torch.tensor([[0.95, 0.05]]))
    torch.testing.assert_close(problem_loss("multi_label", logits, torch.tensor([[1.0, 0.0]]), 0.1), expected)


def test_a_classifier_needs_a_head(model: LlamaForCausalLM) -> None:
    adapter = attach(model, adapter_config(tiny_shape(), MIXED_SITES[0]))
    with pytest.raises(AttachError, match="no classification head"):
        ClassifierModel(model, adapter)


@torch.no_grad()
def test_the_language_loss_is_the_models_own_over_the_supervised_tokens(model: LlamaForCausalLM, ids: Tensor) -> None:
    adapter = attach(model, adapter_config(tiny_shape(), MIXED_SITES[0]))
    language = LanguageModel(model, adapter, label_smoothing=0.1)
    language.train(mode=False)
    labels = ids.clone()
    labels[:, :4] = -100
    labels[1, 7:] = -100
    expected = model(input_ids=ids, labels=labels).loss
    assert expected is not None
    torch.testing.assert_close(language(input_ids=ids, labels=labels).loss, expected)
    halves = [language(input_ids=ids[[i]], labels=labels[[i]], num_items_in_batch=8).loss for i in (0, 1)]
    torch.testing.assert_close(halves[0] + halves[1], expected)


@torch.no_grad()
def test_states_computed_below_the_adapter_replace_the_tokens(model: LlamaForCausalLM, ids: Tensor) -> None:
    adapter = attach(model, adapter_config(tiny_shape(), MIXED_SITES[0]), [2])
    language = LanguageModel(model, adapter)
    language.train(mode=False)
    split = split_backbone(backbone_of(model), 2)
    assert split is not None
    language.use_split(split)
    mask = torch.ones_like(ids)
    mask[0, 6:] = 0
    states = split.prefix_states(ids, mask)
    expected = language(input_ids=ids, attention_mask=mask, labels=ids).loss
    torch.testing.assert_close(language(attention_mask=mask, labels=ids, prefix_states=states).loss, expected)
    assert split_backbone(backbone_of(model), 0) is None
    assert [name for name, _ in language.named_parameters() if "split" in name] == []
