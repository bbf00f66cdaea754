"""Early stopping ends a run that no longer improves, keeps the best epoch, and survives an interruption."""

import signal
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest
import torch
from rich.console import Console
from transformers import TrainerControl, TrainerState, TrainingArguments

from headmix_adapters.artifact import open_artifact
from headmix_adapters.inject import AdaptedModel
from headmix_adapters.train import run as run_module
from headmix_adapters.train.errors import Interrupted
from headmix_adapters.train.fitted import Fit
from headmix_adapters.train.history.history import history_path, read_history
from headmix_adapters.train.prepare import Material
from headmix_adapters.train.run import train_adapter
from headmix_adapters.train.save import Result
from headmix_adapters.train.scoring.evaluate import Evaluation
from headmix_adapters.train.scoring.report import Reporter
from headmix_adapters.train.terminal.interrupt import StopAtStep

MaterialMaker = Callable[..., Material]
# By epoch: the second is the best, and two worse ones follow.
ACCURACIES = (0.5, 0.75, 0.7, 0.6, 0.9)


class Scripted:
    """Scores from a script, and the tensors at the end of each epoch; `stop_in` presses Ctrl-C in that epoch."""

    def __init__(self, stop_in: int | None = None) -> None:
        self.epochs: list[dict[str, torch.Tensor]] = []
        self.stop_in = stop_in

    def __call__(self, material: Material, model: AdaptedModel) -> Evaluation:
        self.epochs.append(model.adapter.tensors())
        if len(self.epochs) == self.stop_in:
            signal.raise_signal(signal.SIGINT)
        return Evaluation({"accuracy": ACCURACIES[len(self.epochs) - 1]})


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Scripted:
    """The script of a run that nothing interrupts."""
    script = Scripted()
    monkeypatch.setattr(run_module, "score_model", script)
    return script


class Killed(BaseException):
    """The process is gone, without a chance to write anything more."""


def killed(*_: object) -> None:
    raise Killed


def kill(loaded: Material, path: Path, reporter: Reporter, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train, and die behind the last checkpoint."""
    with monkeypatch.context() as patch:
        patch.setattr(run_module, "save_fit", killed)
        with pytest.raises(Killed):
            train_adapter(loaded, path, resume=False, reporter=reporter)


def press_at_the_end_of_step(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Press Ctrl-C just before a step ends."""
    stopped = StopAtStep.on_step_end

    def press(
        stop: StopAtStep, args: TrainingArguments, state: TrainerState, control: TrainerControl, **more: object
    ) -> TrainerControl:
        if state.global_step == step:
            signal.raise_signal(signal.SIGINT)
        return stopped(stop, args, state, control, **more)

    monkeypatch.setattr(StopAtStep, "on_step_end", press)


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


def test_training_stops_after_patience_epochs_and_keeps_the_best_ones_tensors(
    material: MaterialMaker,
    reporter: Reporter,
    tmp_path: Path,
    scripted: Scripted,
    finals: list[dict[str, torch.Tensor]],
) -> None:
    loaded = material("classification", epochs=5, early_stopping_patience=2)
    train_adapter(loaded, tmp_path / "a.safetensors", resume=False, reporter=reporter)
    assert len(scripted.epochs) == 4
    assert same(finals[0], scripted.epochs[1])
    assert not same(finals[0], scripted.epochs[3])


@pytest.mark.parametrize("stop_again_in", [None, 4])
def test_an_interrupted_run_remembers_its_patience_and_its_best_epoch(
    material: MaterialMaker,
    reporter: Reporter,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    finals: list[dict[str, torch.Tensor]],
    stop_again_in: int | None,
) -> None:
    scripted = Scripted(stop_in=3)
    monkeypatch.setattr(run_module, "score_model", scripted)
    loaded = material("classification", epochs=5, early_stopping_patience=2)
    with pytest.raises(Interrupted):
        train_adapter(loaded, tmp_path / "a.safetensors", resume=False, reporter=reporter)
    scripted.stop_in = stop_again_in
    train_adapter(loaded, tmp_path / "a.safetensors", resume=True, reporter=reporter)
    assert len(scripted.epochs) == 4
    assert same(finals[0], scripted.epochs[1])


@pytest.mark.parametrize("in_scoring", [True, False])
def test_ctrl_c_in_the_scoring_that_exhausts_the_patience_or_in_the_step_before_it_changes_nothing(
    material: MaterialMaker,
    reporter: Reporter,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    finals: list[dict[str, torch.Tensor]],
    in_scoring: bool,
) -> None:
    scripted = Scripted(4 if in_scoring else None)
    monkeypatch.setattr(run_module, "score_model", scripted)
    if not in_scoring:
        press_at_the_end_of_step(32, monkeypatch)
    loaded = material("classification", epochs=6, early_stopping_patience=2)
    train_adapter(loaded, tmp_path / "a.safetensors", resume=False, reporter=reporter)
    assert len(scripted.epochs) == 4
    assert same(finals[0], scripted.epochs[1])


def test_ctrl_c_in_a_last_step_within_an_epoch_does_not_cost_its_scores(
    material: MaterialMaker, reporter: Reporter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = material("classification", max_steps=5)
    whole = train_adapter(loaded, tmp_path / "whole.safetensors", resume=False, reporter=reporter)
    press_at_the_end_of_step(5, monkeypatch)
    pressed = train_adapter(loaded, tmp_path / "pressed.safetensors", resume=False, reporter=reporter)
    assert pressed.digest == whole.digest
    assert (tmp_path / "pressed.history.jsonl").read_bytes() == (tmp_path / "whole.history.jsonl").read_bytes()


@pytest.mark.parametrize(
    ("training", "steps"),
    [
        ({"epochs": 2}, 16),
        ({"max_steps": 5}, 5),
        ({"epochs": 2, "score_every": 5}, 16),
        ({"epochs": 5, "early_stopping_patience": 1}, 24),
    ],
)
def test_a_run_killed_behind_its_last_checkpoint_ends_with_the_same_bytes(
    material: MaterialMaker,
    reporter: Reporter,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    training: dict[str, int],
    steps: int,
) -> None:
    loaded = material("classification", **training)
    whole = train_adapter(loaded, tmp_path / "whole.safetensors", resume=False, reporter=reporter)
    assert whole.steps == steps
    path = tmp_path / "killed.safetensors"
    kill(loaded, path, reporter, monkeypatch)
    continued = train_adapter(loaded, path, resume=True, reporter=reporter)
    assert (continued.digest, continued.steps, continued.advice) == (whole.digest, steps, whole.advice)
    assert (tmp_path / "killed.history.jsonl").read_bytes() == (tmp_path / "whole.history.jsonl").read_bytes()


def test_a_finished_run_whose_folder_was_moved_still_has_its_best_epoch(
    material: MaterialMaker,
    reporter: Reporter,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    scripted: Scripted,
    finals: list[dict[str, torch.Tensor]],
) -> None:
    loaded = material("classification", epochs=5, early_stopping_patience=2)
    kill(loaded, tmp_path / "a.safetensors", reporter, monkeypatch)
    (tmp_path / "a.checkpoints").rename(tmp_path / "b.checkpoints")
    train_adapter(loaded, tmp_path / "b.safetensors", resume=True, reporter=reporter)
    assert len(scripted.epochs) == 4
    assert same(finals[0], scripted.epochs[1])


def test_without_early_stopping_the_last_epoch_is_the_result_whatever_its_score(
    material: MaterialMaker,
    reporter: Reporter,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    finals: list[dict[str, torch.Tensor]],
) -> None:
    scripted = Scripted()
    monkeypatch.setattr(run_module, "score_model", scripted)
    train_adapter(material("classification", epochs=4), tmp_path / "a.safetensors", resume=False, reporter=reporter)
    assert same(finals[0], scripted.epochs[3])


def test_a_generators_better_epoch_is_the_one_with_the_lower_loss(
    material: MaterialMaker, reporter: Reporter, tmp_path: Path
) -> None:
    loaded = material("generation", epochs=3, learning_rate=0.01, early_stopping_patience=1)
    result = train_adapter(loaded, tmp_path / "a.safetensors", resume=False, reporter=reporter)
    assert result.base is not None
    assert result.adapter.scores["answer_nll"] < result.base.scores["answer_nll"]
    assert open_artifact(result.artifact).config.training["recipe"]["training"]["early_stopping_patience"] == 1


@pytest.mark.parametrize("stop_in", [None, 1, 3])
def test_scores_by_steps_stop_a_run_within_an_epoch_and_keep_the_best_steps_tensors(
    material: MaterialMaker,
    reporter: Reporter,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    finals: list[dict[str, torch.Tensor]],
    stop_in: int | None,
) -> None:
    scripted = Scripted(stop_in)
    monkeypatch.setattr(run_module, "score_model", scripted)
    loaded = material("classification", epochs=3, score_every=3, early_stopping_patience=2)
    path = tmp_path / "a.safetensors"
    if stop_in is not None:
        with pytest.raises(Interrupted, match=f"stopped after step {3 * stop_in + 1} of 24"):
            train_adapter(loaded, path, resume=False, reporter=reporter)
    train_adapter(loaded, path, resume=stop_in is not None, reporter=reporter)
    assert len(scripted.epochs) == 4
    assert same(finals[0], scripted.epochs[1])
    assert [event.step for event in read_history(history_path(path)).scored] == [3, 6, 9, 12]


def test_a_run_scored_by_steps_is_scored_at_its_end_too(material: MaterialMaker, tmp_path: Path) -> None:
    console = Console(file=StringIO(), width=200)
    loaded = material("classification", epochs=1, score_every=3)
    train_adapter(loaded, tmp_path / "a.safetensors", resume=False, reporter=Reporter(console))
    assert [event.step for event in read_history(tmp_path / "a.history.jsonl").scored] == [3, 6, 8]
    assert isinstance(console.file, StringIO)
    assert "step 3 of 8: loss " in console.file.getvalue()
    assert "; held out: accuracy " in console.file.getvalue()
