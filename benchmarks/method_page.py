"""docs/method.md from the runs of the method benchmark: what was compared, one table per task, and how to repeat it."""

import statistics
import textwrap
from collections.abc import Sequence
from pathlib import Path

import msgspec

from benchmarks.method_tasks import COMPARISONS, Comparison

Key = tuple[str, str, float, int]


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One training run and its held-out score; `method` "base alone" has neither rate nor seed."""

    task: str
    method: str
    rate: float
    seed: int
    parameters: int
    measured: str
    score: float
    cpu_seconds: float
    machine: dict[str, str | int]

    @property
    def key(self) -> Key:
        """The values that identify a run."""
        return self.key_of(self.task, self.method, self.rate, self.seed)

    @staticmethod
    def key_of(task: str, method: str, rate: float, seed: int) -> Key:
        """Return the key of a run, whether or not it exists."""
        return (task, method, rate, seed)


def read_runs(path: Path) -> list[Run]:
    """Return the runs of a results file; none if there is no such file."""
    if not path.exists():
        return []
    decoder = msgspec.json.Decoder(Run)
    return [decoder.decode(line) for line in path.read_bytes().splitlines() if line.strip()]


def render_page(runs: Sequence[Run]) -> str:
    """Return the page."""
    sections = [_section(task, [run for run in runs if run.task == task.recipe]) for task in COMPARISONS.values()]
    return "\n\n".join([_INTRODUCTION, *[section for section in sections if section]]) + "\n"


def _section(task: Comparison, runs: Sequence[Run]) -> str:
    if not runs:
        return ""
    trained = [run for run in runs if run.rate]
    better = "higher" if task.measured == "accuracy" else "lower"
    lines = [
        f"## {task.recipe}: {task.measured}, {better} is better",
        "",
        _setting(task, runs[0]),
        "",
        "| method | adapter parameters | learning rate | mean of three seeds | standard deviation | each seed |",
        "|---|---|---|---|---|---|",
    ]
    lines += [_base_row(run) for run in runs if not run.rate]
    for name in task.contenders:
        for rate in task.rates:
            group = sorted((run for run in trained if (run.method, run.rate) == (name, rate)), key=lambda run: run.seed)
            if group:
                lines.append(_row(group))
    return "\n".join(lines)


def _base_row(run: Run) -> str:
    return f"| {run.method} | | | {run.score:.3f} | | |"


def _row(group: Sequence[Run]) -> str:
    scores = [run.score for run in group]
    spread = statistics.stdev(scores) if len(scores) > 1 else 0.0
    first = group[0]
    each = ", ".join(f"{score:.3f}" for score in scores)
    return (
        f"| {first.method} | {first.parameters:,} | {first.rate:g} | {statistics.mean(scores):.3f} "
        f"| {spread:.3f} | {each} |"
    )


def _setting(task: Comparison, run: Run) -> str:
    sizes = f"{task.train} training examples, {task.epochs} epochs, batches of {task.batch_size}"
    machine = f"measured on {run.machine['date']} on {run.machine['cpu']}, torch {run.machine['torch']}"
    return textwrap.fill(f"{sizes}; {task.held_out + task.spare} held-out examples; {machine}.", width=100)


_INTRODUCTION = """# The method against LoRA, in small

The comparison is Kernel-mix (head and shared parts), Kernel-mix lite (head parts alone) and LoRA on
the same sites, through the same trainer: same base, same examples, same batches and steps, adapter
parameters within five percent of each other, three seeds (first values, order of the batches,
dropout). Each is initialised as its own authors do it: Kernel-mix from a folded normal times 0.01,
LoRA with a uniform A and a zero B. LoRA's alpha is its rank, so no scale differs. Each is trained
at the same learning rates, and all of them are shown. The score is that of the last epoch; none is
picked.

<!-- not run: takes half an hour -->
```sh
python -m benchmarks.method
```

repeats it and writes this page. Every run is a line of [method.jsonl](method.jsonl), and existing
runs are not repeated. The tasks are the examples of those names
([examples](../examples/README.md)), reduced so that everything takes about half an hour on one
core: they rank methods on small data, not on the paper's benchmarks."""
