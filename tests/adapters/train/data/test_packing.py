"""Packed rows teach exactly what rows of their own would: the same loss and gradients, in every decoder family."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel, masking_utils

from harness.adapters.artifacts import adapter_config, random_tensors
from harness.adapters.mixed_sites import MIXED_SITES, MLP_SITES
from harness.bases.families import FAMILIES
from headmix_adapters.base.folder import read_base_shape
from headmix_adapters.config import BaseShape, Sites
from headmix_adapters.inject import LanguageModel, attach
from headmix_adapters.inject.backbone import backbone_of
from headmix_adapters.inject.split import split_backbone
from headmix_adapters.train.data.batches import collate
from headmix_adapters.train.data.examples import IGNORED, Example
from headmix_adapters.train.data.packing import PackedCollator, require_exact_packing
from headmix_adapters.train.data.prefix import with_prefix_states
from headmix_adapters.train.errors import RecipeError
from headmix_adapters.train.history.history import read_history
from headmix_adapters.train.prepare import Material
from headmix_adapters.train.run import train_adapter
from headmix_adapters.train.scoring.report import Reporter

DECODERS = [family for family in FAMILIES.values() if family.causal]


@pytest.fixture(scope="module", params=DECODERS, ids=[family.model_type for family in DECODERS])
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[PreTrainedModel, BaseShape]:
    folder: Path = tmp_path_factory.mktemp(request.param.model_type)
    model = request.param.make(folder)
    assert isinstance(model, PreTrainedModel)
    return model, read_base_shape(request.param.model_type, folder)


def examples(count: int = 6) -> list[Example]:
    """Texts of 1 to 21 tokens, longer than the sliding windows; answers of half their length."""
    rng, made = random.Random(4), []
    for length in [1, 2, *(rng.randrange(3, 22) for _ in range(count - 2))]:
        ids = [rng.randrange(5, 500) for _ in range(length)]
        made.append(Example(ids, [IGNORED] * (length // 2) + ids[length // 2 :]))
    return made


def learned(model: LanguageModel, batch: dict[str, Tensor]) -> tuple[Tensor, list[Tensor]]:
    """Return a batch's loss and the adapter's gradients."""
    parameters = list(model.adapter.parameters())
    loss = model(**batch).loss
    return loss.detach(), list(torch.autograd.grad(loss, parameters))


@pytest.mark.parametrize("sites", [MIXED_SITES[0], MIXED_SITES[2], MLP_SITES])
@pytest.mark.parametrize("width", [24, 200])
def test_the_loss_and_the_gradients_are_those_of_rows_of_their_own(
    base: tuple[PreTrainedModel, BaseShape], sites: Sites, width: int
) -> None:
    model, shape = base
    config = adapter_config(shape, sites)
    adapter = attach(model, config)
    try:
        adapter.load(random_tensors(config))
        wrapped = LanguageModel(model, adapter)
        loss, gradients = learned(wrapped, collate(examples()))
        packed_loss, packed_gradients = learned(wrapped, PackedCollator(width)(examples()))
        require_exact_packing(wrapped, examples(), "tiny")
    finally:
        adapter.detach()
    torch.testing.assert_close(packed_loss, loss, rtol=1e-4, atol=1e-5)
    for packed, own in zip(packed_gradients, gradients, strict=True):
        torch.testing.assert_close(packed, own, rtol=1e-3, atol=1e-4 * float(own.abs().max()))


def test_states_computed_once_are_packed_too(base: tuple[PreTrainedModel, BaseShape]) -> None:
    model, shape = base
    split = split_backbone(backbone_of(model), 1)
    if split is None:
        pytest.skip("this family is not split")
    adapter = attach(model, adapter_config(shape, MIXED_SITES[0]), [1, 2])
    try:
        adapter.load(random_tensors(adapter.config, layers=[1, 2]))
        wrapped = LanguageModel(model, adapter)
        loss, _ = learned(wrapped, collate(examples()))
        wrapped.use_split(split)
        prepared = with_prefix_states(examples(), split, model.device, 4)
        batch = PackedCollator(24)(prepared)
        packed, _ = learned(wrapped, batch)
    finally:
        adapter.detach()
    assert "input_ids" not in batch
    torch.testing.assert_close(packed, loss, rtol=1e-4, atol=1e-5)


def test_rows_are_filled_up_to_the_width_and_padding_is_a_text_of_its_own() -> None:
    made = [Example([7] * length, [IGNORED, *[7] * (length - 1)]) for length in (3, 5, 2, 4)]
    batch = PackedCollator(7)(made)
    assert batch["attention_mask"].sum(dim=1).tolist() == [7, 7]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 3, 4, 0, 1], [0, 1, 2, 3, 0, 1, 2]]
    assert batch["labels"].tolist() == [[-100, 7, 7, 7, 7, -100, 7], [-100, 7, 7, 7, -100, 7, 7]]
    padded = PackedCollator(5)(made)
    assert padded["position_ids"].tolist() == [[0, 1, 2, 3, 4], [0, 1, 2, 3, 0], [0, 1, 2, 0, 1]]
    assert padded["input_ids"].tolist()[1] == [7, 7, 7, 7, 0]
    assert padded["labels"].tolist()[1][-1] == IGNORED


def test_a_text_longer_than_a_row_has_one_of_its_own() -> None:
    batch = PackedCollator(2)([Example([7] * 5, [7] * 5), Example([7], [7])])
    assert batch["attention_mask"].sum(dim=1).tolist() == [5, 1]


def test_a_base_on_which_texts_would_see_each_other_is_refused_by_name(
    base: tuple[PreTrainedModel, BaseShape], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, shape = base
    adapter = attach(model, adapter_config(shape, MIXED_SITES[0]))
    monkeypatch.setattr(masking_utils, "find_packed_sequence_indices", lambda _: None)
    try:
        with pytest.raises(RecipeError, match=r"training\.packing: texts in one row would see each other on tiny"):
            require_exact_packing(LanguageModel(model, adapter), examples(), "tiny")
    finally:
        adapter.detach()


def test_a_packed_run_learns_like_an_unpacked_one(
    material: Callable[..., Material], reporter: Reporter, tmp_path: Path
) -> None:
    scores = []
    for packing in (False, True):
        loaded = material("generation", epochs=2, dropout=0.0, packing=packing)
        result = train_adapter(loaded, tmp_path / f"{packing}.safetensors", resume=False, reporter=reporter)
        scores.append(result.adapter.scores["answer_nll"])
    assert scores[1] == pytest.approx(scores[0], rel=1e-2)
    unpacked, packed = (read_history(tmp_path / f"{packing}.history.jsonl") for packing in (False, True))
    assert packed.tokens == unpacked.tokens
