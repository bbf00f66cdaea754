"""Training is shown as a bar on a terminal and as plain lines elsewhere, and never as a number that is not finite."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import StringIO
from pathlib import Path

import pytest
import torch
from rich.console import Console
from transformers import TrainerControl, TrainerState, TrainingArguments

from headmix_adapters.train.errors import TrainError
from headmix_adapters.train.history.events import Started
from headmix_adapters.train.history.history import read_history
from headmix_adapters.train.history.recorder import open_recorder
from headmix_adapters.train.scoring.report import Reporter
from headmix_adapters.train.terminal.progress import Progress, duration, rate
from headmix_adapters.train.terminal.progress_bar import BarProgress
from headmix_adapters.train.terminal.progress_lines import LineProgress
from headmix_adapters.train.terminal.step_report import StepReport

SCORES = {"accuracy": 0.9, "macro_f1": 0.8, "loss": 0.25, "answer_tokens": 7.0}


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def terminal(width: int = 120) -> Console:
    return Console(file=StringIO(), force_terminal=True, width=width)


def shown(console: Console) -> str:
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def test_a_line_is_due_every_ten_seconds_and_at_the_end() -> None:
    clock, lines = Clock(), list[str]()
    progress = LineProgress(lines.append, clock)
    progress.begin(0, 400, 2)
    assert not progress.wants(1)
    clock.now += 10
    assert progress.wants(20)
    progress.step(20, 0.1, 0.5)
    assert not progress.wants(21)
    assert progress.wants(400)
    progress.epoch(1, 0.4, SCORES)
    assert lines == [
        "step 20 of 400 (epoch 0.1 of 2): loss 0.5, 2.0 steps/s, 3:10 left",
        "epoch 1 of 2: loss 0.4; held out: accuracy 0.9, macro F1 0.8, loss 0.25",
    ]


def test_a_resumed_run_is_not_credited_with_the_steps_of_the_first() -> None:
    clock, lines = Clock(), list[str]()
    progress = LineProgress(lines.append, clock)
    progress.begin(300, 400, 2)
    clock.now += 50
    progress.step(310, 1.5, 0.5)
    assert lines == ["step 310 of 400 (epoch 1.5 of 2): loss 0.5, 5.0 s/step, 7:30 left"]


def test_the_bar_shows_step_epoch_loss_and_is_gone_at_the_end() -> None:
    console = terminal()
    with Reporter(console).training() as progress:
        assert isinstance(progress, BarProgress)
        progress.begin(0, 400, 2)
        assert "nan" not in shown(console)
        progress.step(20, 0.1, 0.5)
        progress.epoch(1, None, SCORES)
        progress.stopping()
    written = shown(console)
    for words in (
        "20/400",
        "epoch 0.1",
        "loss 0.5",
        "epoch 1 of 2: held out: accuracy 0.9",
        "held out accuracy 0.9",
        "stopping after this step",
    ):
        assert words in written
    assert written.endswith("\x1b[2K")


def test_a_narrow_terminal_gets_a_bar_of_one_line() -> None:
    console = terminal(60)
    with Reporter(console).training() as progress:
        progress.begin(0, 4000, 20)
        progress.step(2000, 9.5, 0.12345)
    drawn = [line for line in shown(console).splitlines() if "training" in line or "loss" in line]
    assert drawn
    assert all("training" in line and "2000/4000" in line for line in drawn if "loss" in line)


def test_without_a_terminal_nothing_but_plain_lines_is_written() -> None:
    console = Console(file=StringIO(), width=40)
    reporter = Reporter(console)
    with reporter.stage("scoring a base whose name is longer than the forty columns of this console"):
        pass
    with reporter.training() as progress:
        progress.begin(0, 4, 1)
        progress.step(1, 0.2, 0.5)
    assert len(shown(console).splitlines()) == 2
    assert "\x1b" not in shown(console)


@contextmanager
def report_to(progress: Progress, folder: Path) -> Iterator[StepReport]:
    about = Started(
        name="a",
        task="classification",
        steps=0,
        epochs=0,
        train_examples=1,
        valid_examples=1,
        score_name="accuracy",
        greater_is_better=True,
        base=None,
        linear_classifier=None,
    )
    with open_recorder(folder / "history.jsonl", None, 0) as recorder:
        yield StepReport(progress, recorder, about)


def test_a_loss_that_is_no_number_ends_the_run_at_its_step(tmp_path: Path) -> None:
    arguments, control = TrainingArguments(report_to="none", use_cpu=True), TrainerControl()
    state = TrainerState(max_steps=2, global_step=0, epoch=0.0, num_train_epochs=1)
    with report_to(LineProgress(lambda _: None, Clock()), tmp_path) as report:
        report.on_train_begin(arguments, state, control)
        report.add(torch.tensor(float("nan")), 7)
        state.global_step = 2
        with pytest.raises(TrainError, match="the loss is not finite after step 2: train with a lower learning_rate"):
            report.on_step_end(arguments, state, control)


def test_a_steps_loss_is_the_sum_of_its_batches_shares_and_steps_not_shown_are_in_the_mean(tmp_path: Path) -> None:
    seen: list[float] = []

    class Kept(Progress):
        def wants(self, step: int) -> bool:
            return step != 2

        def step(self, step: int, epoch: float, loss: float) -> None:
            seen.append(loss)

        def epoch(self, number: int, loss: float | None, scores: Mapping[str, float]) -> None:
            assert loss is not None
            seen.append(loss)

    arguments, control = TrainingArguments(report_to="none", use_cpu=True), TrainerControl()
    state = TrainerState(max_steps=9, global_step=0, epoch=0.5, num_train_epochs=1)
    with report_to(Kept(), tmp_path) as report:
        for losses in ((0.5, 0.25), (1.0,), (2.0,)):
            for loss in losses:
                report.add(torch.tensor(loss), 7)
            state.global_step += 1
            report.on_step_end(arguments, state, control)
        report.scored(state, {})
    assert seen == [0.75, 1.5, 1.25]
    history = read_history(tmp_path / "history.jsonl")
    assert [(step.train_loss, step.tokens) for step in history.steps] == [(0.75, 14), (1.0, 21), (2.0, 28)]


def test_the_loss_shown_is_an_average_that_forgets_by_steps_and_not_by_refreshes() -> None:
    often, seldom = LineProgress(lambda _: None, Clock()), LineProgress(lambda _: None, Clock())
    for step in range(1, 41):
        often.smoothed(step, 1.0 if step == 1 else 0.0)
    seldom.smoothed(1, 1.0)
    assert seldom.smoothed(40, 0.0) == pytest.approx(often.smoothed(40, 0.0))


def test_speeds_and_times_are_written_as_people_do() -> None:
    assert [rate(value) for value in (12.34, 0.5, 0.0)] == ["12.3 steps/s", "2.0 s/step", "0.0 steps/s"]
    assert [duration(value) for value in (5, 65, 3661)] == ["0:05", "1:05", "1:01:01"]
