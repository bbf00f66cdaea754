"""The benchmark on tiny random bases: it can be stopped anywhere, goes on, and measures the same as in one piece."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.method import __main__ as command
from benchmarks.method import estimate, methods, plan, tasks, train
from benchmarks.method.display import Display
from benchmarks.method.methods import LORA, METHODS, Contenders, Ranks
from benchmarks.method.prepare import prepare
from benchmarks.method.results import Cell, Result, read_results
from benchmarks.method.tasks import Task
from benchmarks.method.train import _attach, run_cell
from harness.bases.families import FAMILIES
from headmix_adapters.train.errors import DivergedError, Interrupted
from headmix_adapters.train.terminal.progress import Progress

pytestmark = pytest.mark.timeout(300)  # a minute of computing on a loaded machine


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Task]]:
    """A task of each kind on tiny bases, with a few runs each."""
    folder = tmp_path_factory.mktemp("bases")
    for family in ("bert", "llama"):
        FAMILIES[family].make(folder / family)
    category = shrunk(tasks.TASKS["category"], folder / "bert")
    dictionary = shrunk(tasks.TASKS["dictionary"], folder / "llama")
    changed = [
        dataclasses.replace(category, spare=4),
        dataclasses.replace(dictionary, layers=(1, 3), chat_template=str(tasks.PLAIN_TEMPLATE)),
    ]
    ranks = Contenders(Ranks(1, 1, 1), Ranks(2, 2, 2), Ranks(1, 1, 1))
    fitted = {(task.base, budget): ranks for task in changed for budget in methods.BUDGETS}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(methods, "RANKS", fitted)
        patched.setattr(methods, "TOLERANCE", 5.0)
        patched.setattr(plan, "TUNING_SEEDS", (101,))
        patched.setattr(plan, "SEEDS", (1,))
        for module in (command, estimate):
            patched.setattr(module, "TASKS", {task.name: task for task in changed})
        yield changed


@pytest.fixture(scope="module")
def whole(tiny: list[Task], tmp_path_factory: pytest.TempPathFactory) -> list[Result]:
    """The results of the whole plan, run in one piece."""
    return run(tiny, tmp_path_factory.mktemp("whole") / "runs.jsonl")


def shrunk(task: Task, base: Path) -> Task:
    return dataclasses.replace(
        task, base=str(base), train=12, validation=6, epochs=1, batch_size=4, rates=(1e-3, 1e-2), apart=False
    )


def run(tiny: Sequence[Task], path: Path, hours: float | None = None) -> list[Result]:
    command.run(tiny, ["small"], path, hours, Display(Console(quiet=True)))
    return read_results(path)


def measured(results: Sequence[Result]) -> list[Result]:
    """Return results without the time they took."""
    return [_figures(result) for result in results]


def _figures(result: Result) -> Result:
    return Result(
        cell=result.cell, parameters=result.parameters, steps=result.steps, validation=result.validation,
        test=result.test, outcomes=result.outcomes, tokens=result.tokens,
    )  # fmt: skip


def test_a_run_stopped_by_a_signal_goes_on_and_measures_the_same(
    tiny: list[Task], whole: list[Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    assert len(whole) == 2 * (1 + len(METHODS) * (2 + 1))
    trained = 0

    def until_the_ninth(*arguments: object) -> Result:
        nonlocal trained
        trained += 1
        if trained == 9:
            raise Interrupted("stopped after step 1 of 3")
        return run_cell(*arguments)  # type: ignore[arg-type]  # passed on as they are

    arguments = ["--results", str(tmp_path / "pieces.jsonl"), "--only", "small"]
    with monkeypatch.context() as patched:
        patched.setattr(command, "run_cell", until_the_ninth)
        assert command.main(arguments) == 130
    assert "the same command goes on from here" in capsys.readouterr().err
    assert len(read_results(tmp_path / "pieces.jsonl")) == 8
    assert command.main([*arguments, "--tasks", "category"]) == 0
    pieces = read_results(tmp_path / "pieces.jsonl")
    assert measured(pieces) == measured([one for one in whole if one.cell.task == "category"])


def test_tuning_runs_never_see_the_test_split_and_final_ones_are_scored_on_nothing_else(
    tiny: list[Task], whole: list[Result]
) -> None:
    for task in tiny:
        test = 280 + 4 if task.classifies else 200
        own = [result for result in whole if result.cell.task == task.name]
        assert {len(one.outcomes) for one in own if one.cell.part == "final"} == {test}
        assert not any(one.test or one.outcomes for one in own if one.cell.part == "tuning")
        assert not any(one.validation for one in own if one.cell.part != "tuning")
        assert {one.steps for one in own if one.cell.part != "reference"} == {3}


def test_no_cell_is_begun_that_would_exceed_the_time(tiny: list[Task], tmp_path: Path) -> None:
    assert run(tiny, tmp_path / "runs.jsonl", hours=1e-6) == []


def test_the_head_starts_with_the_same_values_for_every_method(tiny: list[Task]) -> None:
    prepared = prepare(tiny[0])
    heads = []
    for method in METHODS:
        adapter = _attach(prepared, method, "small", seed=3)
        tensors = adapter.tensors()
        heads.append({name: tensor for name, tensor in tensors.items() if name.startswith("classifier.")})
        adapter.detach()
    assert heads[0]
    assert all(bool((head[name] == heads[0][name]).all()) for head in heads for name in head)


def test_the_training_that_a_display_watches_is_the_products(tiny: list[Task]) -> None:
    steps: list[int] = []

    class Watching(Progress):
        def wants(self, step: int) -> bool:
            return True

        def step(self, step: int, epoch: float, loss: float) -> None:
            steps.append(step)

    prepared = prepare(tiny[1])
    cell = plan.final(tiny[1], "small", LORA, 1e-3, 1)
    run_cell(prepared, cell, Watching())
    assert steps == [1, 2, 3]


def test_a_tuning_run_that_diverges_is_a_result_and_a_final_one_an_error(
    tiny: list[Task], monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverge(*_: object) -> None:
        raise DivergedError(11, "the loss has diverged")

    monkeypatch.setattr(train, "fit", diverge)
    prepared = prepare(tiny[0])
    cell = Cell(task=tiny[0].name, part="tuning", budget="small", method=LORA, rate=1e-3, seed=101)
    result = run_cell(prepared, cell, Progress())
    assert (result.diverged, result.validation) == (True, {})
    with pytest.raises(DivergedError):
        run_cell(prepared, plan.final(tiny[0], "small", LORA, 1e-3, 1), Progress())
