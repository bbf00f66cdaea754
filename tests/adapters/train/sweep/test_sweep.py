"""A sweep trains every candidate, keeps the best one's adapter, and goes on where it was interrupted."""

import dataclasses
import signal
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from rich.console import Console

from headmix_adapters.artifact import digest_file, open_artifact
from headmix_adapters.artifact.load import load_tensors
from headmix_adapters.inject import AdaptedModel
from headmix_adapters.train import run as run_module
from headmix_adapters.train.errors import DivergedError, Interrupted, TargetError
from headmix_adapters.train.history.history import read_history
from headmix_adapters.train.prepare import Material, load_material
from headmix_adapters.train.recipe.recipe import Recipe, SweepTable
from headmix_adapters.train.run import train_adapter
from headmix_adapters.train.save import Result
from headmix_adapters.train.scoring.evaluate import Evaluation
from headmix_adapters.train.scoring.report import Reporter
from headmix_adapters.train.scoring.score import score_model
from headmix_adapters.train.sweep import sweep as sweep_module
from headmix_adapters.train.sweep.grid import candidates
from headmix_adapters.train.sweep.sweep import SweepResult, run_sweep
from headmix_adapters.train.sweep.table import print_sweep

pytestmark = pytest.mark.slow

RATES = (1e-4, 0.02, 0.01)


@pytest.fixture
def recipe_of(recipe: Callable[..., Recipe]) -> Recipe:
    asked = recipe("generation", epochs=2, precision="float32")  # in bfloat16 a rate of 1e9 leaves the loss a number
    return msgspec.structs.replace(asked, sweep=SweepTable(learning_rate=RATES))


@pytest.fixture
def loaded(recipe_of: Recipe, data_folder: Path) -> Material:
    return load_material(recipe_of, data_folder)


def sweep(
    loaded: Material, path: Path, reporter: Reporter, *, resume: bool = False, force: bool = False
) -> SweepResult:
    return run_sweep(loaded, candidates(loaded.recipe), path, resume=resume, reporter=reporter, force=force)


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_the_best_candidates_adapter_is_the_one_its_own_run_would_have_made(
    loaded: Material, reporter: Reporter, tmp_path: Path
) -> None:
    found = sweep(loaded, tmp_path / "a.safetensors", reporter)
    assert found.best.values == {"learning_rate": 0.02}
    losses = [outcome.adapter.scores["answer_nll"] for _, outcome in found.outcomes if outcome.adapter is not None]
    assert losses[1] == min(losses) == found.result.adapter.scores["answer_nll"]
    alone = msgspec.structs.replace(
        loaded.recipe, training=msgspec.structs.replace(loaded.recipe.training, learning_rate=0.02), sweep=None
    )
    single = dataclasses.replace(loaded, recipe=alone)
    train_adapter(single, tmp_path / "b.safetensors", resume=False, reporter=reporter)
    assert same(load_tensors(tmp_path / "a.safetensors"), load_tensors(tmp_path / "b.safetensors"))
    assert (tmp_path / "a.history.jsonl").read_bytes() == (tmp_path / "b.history.jsonl").read_bytes()
    assert not (tmp_path / "a.sweep").exists()


def test_the_header_has_the_winning_recipe_and_everybodys_scores(
    loaded: Material, reporter: Reporter, tmp_path: Path
) -> None:
    found = sweep(loaded, tmp_path / "a.safetensors", reporter)
    assert found.result.digest == digest_file(tmp_path / "a.safetensors")
    training = open_artifact(tmp_path / "a.safetensors").config.training
    assert training["recipe"]["training"]["learning_rate"] == 0.02
    assert [run["learning_rate"] for run in training["sweep"]] == [*RATES]
    assert training["sweep"][1]["scores"] == training["metrics"]["adapter"]


def test_base_and_linear_classifier_are_scored_once_for_all(
    loaded: Material, reporter: Reporter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def counted(material: Material) -> Evaluation:
        calls.append(1)
        return Evaluation({"answer_nll": 3.0})

    monkeypatch.setattr(run_module, "score_base", counted)
    found = sweep(loaded, tmp_path / "a.safetensors", reporter)
    assert len(calls) == 1
    assert found.result.base == Evaluation({"answer_nll": 3.0})


@pytest.mark.parametrize("interrupted", [1, 3])
def test_an_interrupted_sweep_goes_on_within_the_run_that_was_interrupted(
    loaded: Material, reporter: Reporter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, interrupted: int
) -> None:
    sweep(loaded, tmp_path / "whole.safetensors", reporter)
    calls = 0

    def scored(material: Material, model: AdaptedModel) -> Evaluation:
        nonlocal calls
        calls += 1
        if calls == interrupted:
            signal.raise_signal(signal.SIGINT)
        return score_model(material, model)

    path = tmp_path / "stopped.safetensors"
    monkeypatch.setattr(run_module, "score_model", scored)
    with pytest.raises(Interrupted):
        sweep(loaded, path, reporter)
    assert not path.exists()
    with pytest.raises(TargetError, match="unfinished sweep: continue it with --resume"):
        sweep(loaded, path, reporter)
    sweep(loaded, path, reporter, resume=True)
    assert path.read_bytes() == (tmp_path / "whole.safetensors").read_bytes()


def test_runs_that_had_ended_are_not_trained_again(
    loaded: Material, reporter: Reporter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[str] = []

    def noted(material: Material, artifact: Path, **options: Any) -> Result:
        trained.append(artifact.name)
        if len(trained) == 3:
            raise KeyboardInterrupt
        return train_adapter(material, artifact, **options)

    monkeypatch.setattr(sweep_module, "train_adapter", noted)
    with pytest.raises(KeyboardInterrupt):
        sweep(loaded, tmp_path / "a.safetensors", reporter)
    sweep(loaded, tmp_path / "a.safetensors", reporter, resume=True)
    assert [name[:2] for name in trained] == ["01", "02", "03", "03"]


def test_a_sweep_of_another_recipe_is_not_continued_and_none_is_begun_over_an_artifact(
    loaded: Material, reporter: Reporter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.safetensors"
    with pytest.raises(TargetError, match="no sweep to resume"):
        sweep(loaded, path, reporter, resume=True)
    with monkeypatch.context() as patch:
        patch.setattr(sweep_module, "train_adapter", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            sweep(loaded, path, reporter)
    other = msgspec.structs.replace(loaded.recipe, sweep=SweepTable(learning_rate=(0.5,)))
    changed = dataclasses.replace(loaded, recipe=other)
    with pytest.raises(TargetError, match="had another recipe"):
        sweep(changed, path, reporter, resume=True)
    path.write_bytes(b"somebody's")
    with pytest.raises(TargetError, match="was written after this run began"):
        sweep(loaded, path, reporter, resume=True)
    assert path.read_bytes() == b"somebody's"


def test_a_run_that_diverges_loses_and_the_others_go_on(
    recipe_of: Recipe, data_folder: Path, reporter: Reporter, tmp_path: Path
) -> None:
    wild = msgspec.structs.replace(recipe_of, sweep=SweepTable(learning_rate=(1e9, 0.01)))
    console = Console(file=StringIO(), width=100)
    found = sweep(load_material(wild, data_folder), tmp_path / "a.safetensors", reporter)
    print_sweep(console, found)
    assert found.best.values == {"learning_rate": 0.01}
    assert isinstance(console.file, StringIO)
    printed = console.file.getvalue()
    assert [line.split()[-1] for line in printed.splitlines() if line.strip()[:1].isdigit()] == ["diverged", "best"]
    assert "1e+09" in printed
    assert "best: learning_rate 0.01" in printed
    assert open_artifact(tmp_path / "a.safetensors").config.training["sweep"][0] == {
        "learning_rate": 1e9,
        "diverged": True,
    }


def test_if_every_run_diverges_there_is_no_artifact(
    recipe_of: Recipe, data_folder: Path, reporter: Reporter, tmp_path: Path
) -> None:
    wild = msgspec.structs.replace(recipe_of, sweep=SweepTable(learning_rate=(1e9, 1e8)))
    with pytest.raises(DivergedError, match="every run of the sweep diverged; the first: the"):
        sweep(load_material(wild, data_folder), tmp_path / "a.safetensors", reporter)
    assert not (tmp_path / "a.safetensors").exists()


def test_presets_may_compete_too(recipe_of: Recipe, data_folder: Path, reporter: Reporter, tmp_path: Path) -> None:
    table = SweepTable(preset=("lite-qv", "lite-qvo"), learning_rate=(0.01,))
    loaded = load_material(msgspec.structs.replace(recipe_of, sweep=table), data_folder)
    found = sweep(loaded, tmp_path / "a.safetensors", reporter)
    sites = [open_artifact(tmp_path / "a.safetensors").config.sites.present().keys()]
    assert sites == [{"q", "v", "o"} if found.best.values["preset"] == "lite-qvo" else {"q", "v"}]
    assert len(read_history(tmp_path / "a.history.jsonl").steps) == 16
