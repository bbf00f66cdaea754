"""What saves memory or time in training says what it costs: the same tensors, or a resumed run's exactness kept."""

import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers.modeling_layers import GradientCheckpointingLayer

from headmix_adapters.inject import AdaptedModel
from headmix_adapters.train import run as run_module
from headmix_adapters.train.errors import Interrupted
from headmix_adapters.train.fitted import Fit
from headmix_adapters.train.prepare import Material
from headmix_adapters.train.run import train_adapter
from headmix_adapters.train.save import Result
from headmix_adapters.train.scoring.evaluate import Evaluation
from headmix_adapters.train.scoring.report import Reporter
from headmix_adapters.train.scoring.score import score_model

pytestmark = pytest.mark.slow

MaterialMaker = Callable[..., Material]


@pytest.fixture
def finals(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, torch.Tensor]]:
    """The tensors that runs ended with."""
    kept: list[dict[str, torch.Tensor]] = []

    def remember(material: Material, artifact: Path, fitted: Fit, *_: object) -> Result:
        kept.append(fitted.tensors)
        return Result(artifact, "", Evaluation({}))

    monkeypatch.setattr(run_module, "write_result", remember)
    return kept


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(tensor, other[name]) for name, tensor in one.items())


@pytest.mark.parametrize("layers", [[0, 3], [1, 3]])
@pytest.mark.parametrize("task", ["generation", "classification"])
def test_layers_that_are_computed_again_give_the_same_tensors(
    material: MaterialMaker,
    reporter: Reporter,
    tmp_path: Path,
    finals: list[dict[str, torch.Tensor]],
    task: str,
    layers: list[int],
) -> None:
    for recomputed in (False, True):
        adapter = {"preset": "lite-qv", "layers": layers}
        loaded = material(task, adapter=adapter, epochs=2, gradient_checkpointing=recomputed)
        train_adapter(loaded, tmp_path / f"{recomputed}.safetensors", resume=False, reporter=reporter)
    assert same(*finals)


def test_layers_are_computed_again_only_if_the_recipe_says_so_and_only_in_training(
    material: MaterialMaker, reporter: Reporter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []

    def looked(material: Material, model: AdaptedModel) -> Evaluation:
        seen.append(any(layer.gradient_checkpointing for layer in layers(material)))
        return score_model(material, model)

    def layers(material: Material) -> list[GradientCheckpointingLayer]:
        return [module for module in material.model.modules() if isinstance(module, GradientCheckpointingLayer)]

    monkeypatch.setattr(run_module, "score_model", looked)
    for recomputed in (False, True):
        loaded = material("classification", epochs=1, gradient_checkpointing=recomputed)
        train_adapter(loaded, tmp_path / f"{recomputed}.safetensors", resume=False, reporter=reporter)
        assert not any(layer.gradient_checkpointing for layer in layers(loaded))
    assert seen == [False, True]


def test_an_interrupted_run_in_bfloat16_continues_to_the_same_tensors_too(
    material: MaterialMaker,
    reporter: Reporter,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    finals: list[dict[str, torch.Tensor]],
) -> None:
    loaded = material("classification", epochs=2, precision="bfloat16", gradient_checkpointing=True)
    train_adapter(loaded, tmp_path / "whole.safetensors", resume=False, reporter=reporter)

    def interrupt(material: Material, model: AdaptedModel) -> Evaluation:
        signal.raise_signal(signal.SIGINT)
        return score_model(material, model)

    path = tmp_path / "stopped.safetensors"
    with monkeypatch.context() as patch:
        patch.setattr(run_module, "score_model", interrupt)
        with pytest.raises(Interrupted):
            train_adapter(loaded, path, resume=False, reporter=reporter)
    train_adapter(loaded, path, resume=True, reporter=reporter)
    assert same(*finals)
