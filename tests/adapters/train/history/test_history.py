"""A run's history has every step and every score, and does not show whether the run was interrupted."""

import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from headmix_adapters.train import run as run_module
from headmix_adapters.train import save as save_module
from headmix_adapters.train.checkpoints.run_folder import RunFolder
from headmix_adapters.train.errors import DivergedError, Interrupted, TrainError
from headmix_adapters.train.history.event_log import open_events
from headmix_adapters.train.history.events import Checkpoint, Resumed, Scored, Started, Step, decode_events
from headmix_adapters.train.history.history import history_path, read_history
from headmix_adapters.train.prepare import Material
from headmix_adapters.train.run import train_adapter
from headmix_adapters.train.scoring.evaluate import Evaluation
from headmix_adapters.train.scoring.report import Reporter
from headmix_adapters.train.terminal.step_report import StepReport

MaterialMaker = Callable[..., Material]
STEPS = 24


@pytest.fixture
def loaded(material: MaterialMaker) -> Material:
    """Eight steps in each of three epochs."""
    return material("classification")


@pytest.fixture
def whole(loaded: Material, reporter: Reporter, tmp_path: Path) -> bytes:
    """The history of a run that was never interrupted."""
    path = tmp_path / "whole.safetensors"
    train_adapter(loaded, path, resume=False, reporter=reporter)
    return history_path(path).read_bytes()


def interrupt_after(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Press Ctrl-C while a step is computed; scores are not touched."""
    add, count = StepReport.add, 0

    def added(self: StepReport, *batch: object) -> None:
        nonlocal count
        count += 1
        if count == step:
            signal.raise_signal(signal.SIGINT)
        add(self, *batch)  # type: ignore[arg-type]  # passed through

    monkeypatch.setattr(StepReport, "add", added)


def test_a_history_has_the_start_every_step_and_every_score(whole: bytes, loaded: Material, tmp_path: Path) -> None:
    history = read_history(tmp_path / "whole.history.jsonl")
    assert history.started is not None
    assert (history.started.steps, history.started.epochs, history.started.score_name) == (STEPS, 3, "accuracy")
    assert history.started.base is not None
    assert [step.step for step in history.steps] == list(range(1, STEPS + 1))
    assert [(event.step, event.epoch) for event in history.scored] == [(8, 1.0), (16, 2.0), (24, 3.0)]
    assert history.tokens == 3 * loaded.train.tokens
    assert history.steps[0].learning_rate < history.steps[1].learning_rate > history.steps[-1].learning_rate
    first = history.scored[0]
    assert first.train_loss == pytest.approx(sum(step.train_loss for step in history.steps[:8]) / 8)
    assert (first.score, first.valid_loss) == (first.scores["accuracy"], first.scores["loss"])
    assert not (tmp_path / "whole.checkpoints").exists()


@pytest.mark.parametrize("stopped", [5, 8, 9])
def test_an_interrupted_runs_history_is_that_of_an_uninterrupted_one(
    whole: bytes, loaded: Material, reporter: Reporter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stopped: int
) -> None:
    path = tmp_path / "stopped.safetensors"
    with monkeypatch.context() as patch:
        interrupt_after(stopped, patch)
        with pytest.raises(Interrupted, match=f"stopped after step {stopped} of 24"):
            train_adapter(loaded, path, resume=False, reporter=reporter)
    assert not history_path(path).exists()
    train_adapter(loaded, path, resume=True, reporter=reporter)
    assert history_path(path).read_bytes() == whole


def test_after_a_kill_the_events_go_on_without_a_gap_or_a_step_told_twice(
    whole: bytes, loaded: Material, reporter: Reporter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    path, stream = tmp_path / "killed.safetensors", tmp_path / "events.jsonl"
    add, count = StepReport.add, 0

    def killed(self: StepReport, *batch: object) -> None:
        nonlocal count
        count += 1
        if count == 13:
            raise Killed
        add(self, *batch)  # type: ignore[arg-type]  # passed through

    with monkeypatch.context() as patch, open_events(stream, resume=False) as events:
        patch.setattr(StepReport, "add", killed)
        with pytest.raises(Killed):
            train_adapter(loaded, path, resume=False, reporter=reporter, events=events)
    assert [event.step for event in decode_events(stream.read_bytes()) if isinstance(event, Step)] == [*range(1, 13)]
    with open_events(stream, resume=True) as events:
        train_adapter(loaded, path, resume=True, reporter=reporter, events=events)
    told = decode_events(stream.read_bytes())
    assert [event for event in told if isinstance(event, (Started, Step, Scored))] == decode_events(whole)
    assert [event.step for event in told if isinstance(event, Checkpoint)] == [8, 16, 24]
    assert [event.step for event in told if isinstance(event, Resumed)] == [8]
    assert history_path(path).read_bytes() == whole


def test_a_resumed_run_tells_a_new_file_everything_from_the_first_step(
    whole: bytes, loaded: Material, reporter: Reporter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, stream = tmp_path / "moved.safetensors", tmp_path / "elsewhere.jsonl"
    with monkeypatch.context() as patch:
        interrupt_after(5, patch)
        with pytest.raises(Interrupted):
            train_adapter(loaded, path, resume=False, reporter=reporter)
    with open_events(stream, resume=True) as events:
        train_adapter(loaded, path, resume=True, reporter=reporter, events=events)
    told = decode_events(stream.read_bytes())
    assert [event for event in told if isinstance(event, (Started, Step, Scored))] == decode_events(whole)


def test_the_history_of_another_run_does_not_lie_next_to_a_new_artifact(
    loaded: Material, reporter: Reporter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.safetensors"
    history_path(path).write_text("that of an older run")

    def fail(*_: object) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(run_module, "write_history", fail)
    with pytest.raises(OSError, match="full"):
        train_adapter(loaded, path, resume=False, reporter=reporter)
    assert not history_path(path).exists()


def test_a_file_that_is_no_history_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(TrainError, match=r"no\.jsonl: No such file"):
        read_history(tmp_path / "no.jsonl")
    (tmp_path / "other.jsonl").write_text('{"event": "stepp"}\n')
    with pytest.raises(TrainError, match=r"other\.jsonl is not a history of training: .*stepp"):
        read_history(tmp_path / "other.jsonl")


def test_a_run_whose_loss_climbs_far_above_its_start_ends_and_keeps_nothing(
    loaded: Material, reporter: Reporter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add, count = StepReport.add, 0

    def climbing(self: StepReport, loss: torch.Tensor, tokens: int) -> None:
        nonlocal count
        count += 1
        add(self, loss * count, tokens)

    monkeypatch.setattr(StepReport, "add", climbing)
    monkeypatch.setattr(run_module, "score_model", lambda *_: Evaluation({"accuracy": 0.5}))
    with pytest.raises(TrainError, match="the loss has diverged"):
        train_adapter(loaded, tmp_path / "a.safetensors", resume=False, reporter=reporter)
    assert not list(tmp_path.iterdir())


def test_a_run_that_keeps_many_checkpoints_and_is_killed_writes_the_bytes_of_one_that_does_not(
    whole: bytes, loaded: Material, reporter: Reporter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    path, add, count = tmp_path / "killed.safetensors", StepReport.add, 0

    def killed(self: StepReport, *batch: object) -> None:
        nonlocal count
        count += 1
        if count == 13:
            raise Killed
        add(self, *batch)  # type: ignore[arg-type]  # passed through

    with monkeypatch.context() as patch:
        patch.setattr(StepReport, "add", killed)
        with pytest.raises(Killed):
            train_adapter(loaded, path, resume=False, reporter=reporter, checkpoint_seconds=0.0)
    checkpoint = RunFolder(path).last_checkpoint()
    assert checkpoint is not None
    assert checkpoint.name == "checkpoint-12"
    train_adapter(loaded, path, resume=True, reporter=reporter, checkpoint_seconds=0.0)
    assert history_path(path).read_bytes() == whole
    assert path.read_bytes() == (tmp_path / "whole.safetensors").read_bytes()


def test_a_run_killed_before_its_artifact_was_written_tells_a_new_file_everything(
    whole: bytes, loaded: Material, reporter: Reporter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    path, stream = tmp_path / "late.safetensors", tmp_path / "late.jsonl"
    with monkeypatch.context() as patch:
        patch.setattr(run_module, "write_result", killed)
        with pytest.raises(KeyboardInterrupt):
            train_adapter(loaded, path, resume=False, reporter=reporter)
    with open_events(stream, resume=True) as events:
        train_adapter(loaded, path, resume=True, reporter=reporter, events=events)
    told = decode_events(stream.read_bytes())
    assert [event for event in told if isinstance(event, (Started, Step, Scored))] == decode_events(whole)
    assert history_path(path).read_bytes() == whole


@pytest.mark.parametrize("where", ["training", "the written file"])
def test_scores_that_are_no_numbers_are_a_divergence_too(
    loaded: Material, reporter: Reporter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    broken = Evaluation({"accuracy": 0.5, "loss": float("nan")})
    module, name = (run_module, "score_model") if where == "training" else (save_module, "score_artifact")
    monkeypatch.setattr(module, name, lambda *_: broken)
    with pytest.raises(DivergedError, match="scores are not finite"):
        train_adapter(loaded, tmp_path / "a.safetensors", resume=False, reporter=reporter)
    assert not list(tmp_path.iterdir())
