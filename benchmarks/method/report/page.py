"""The generated part of docs/method.md: what has been run and what has not, tables, and where the numbers are from."""

import statistics
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from benchmarks.method.methods import METHODS, sites_of
from benchmarks.method.plan import SEEDS, made, num_cells
from benchmarks.method.report.comparison import AGAINST, Comparison, compare_all, num_compared, planned, scores_of
from benchmarks.method.report.pictures import TITLES
from benchmarks.method.results import Result
from headmix_adapters.config import Sites

BEGIN, END = "<!-- results of method.jsonl, written by make method -->", "<!-- end of the results -->"
LEVEL = 0.05
_NONE = "no difference shown"
VERSIONS = ("python", "torch", "transformers", "numpy", "headmix")

_fill = partial(textwrap.fill, width=100, break_long_words=False, break_on_hyphens=False)
_item = partial(_fill, initial_indent="* ", subsequent_indent="  ")


def render(results: Sequence[Result], pictures: Sequence[str] = ()) -> str:
    """Return the results as Markdown; `pictures` are the file names of those drawn."""
    comparisons = compare_all(results)
    return "\n\n".join(
        [
            _state(results),
            *(f"![{TITLES[name]}](pictures/{name})" for name in pictures),
            *_differences(comparisons, num_compared(results)),
            *(_section(one) for one in comparisons),
            *_origin(results),
        ]
    )


def _state(results: Sequence[Result]) -> str:
    """Say which parts of the plan have been run, and which have not."""
    missing, run, total = [], 0, 0
    for task, budget in planned(results):
        parts = made(results, task, budget)
        tuned, tested = parts["tuning"], parts["final"]
        tuning, final = num_cells(task)
        run, total = run + tuned + tested, total + tuning + final
        if tuned + tested < tuning + final:
            missing.append(f"{task.name}, {budget}: {tuned} of {tuning} tuning and {tested} of {final} final runs")
    if not missing:
        return _fill(f"The plan is complete: {run} runs.")
    head = f"**The plan is not complete**: {run} of {total} runs are made. Not compared until they are:"
    return "\n".join([_fill(head), "", *(_item(line) for line in missing)])


def _differences(comparisons: Sequence[Comparison], corrected_for: int) -> Iterator[str]:
    rows = [
        row
        for one in comparisons
        for method in AGAINST
        if method in one.against
        for row in [_difference_row(one, method)]
    ]
    if not rows:
        return
    yield "## Differences from LoRA"
    yield _fill(
        "Test score minus LoRA's with the same seed, on the same examples. The interval and p are from a bootstrap "
        f"over seeds and examples; the corrected p allows for all {corrected_for} comparisons of the plan (Holm). "
        f"A verdict needs a corrected p below {LEVEL:g}."
    )
    columns = ("task, size", "method", "difference", "95 % interval", "seeds better", "p", "corrected p", "verdict")
    yield _table(columns, rows)
    yield "\n".join(_item(_summary(comparisons, method)) for method in AGAINST)


def _summary(comparisons: Sequence[Comparison], method: str) -> str:
    """Count a method's verdicts, and name the comparisons that show a difference."""
    verdicts = {f"{one.task.name}, {one.budget}": _verdict(one, method) for one in comparisons if method in one.against}
    shown = [f"{verdict} on {name}" for name, verdict in verdicts.items() if verdict != _NONE]
    rest = len(verdicts) - len(shown)
    return f"**{method}**: {'; '.join([*shown, f'{_NONE} in {rest} of {len(verdicts)} comparisons'])}."


def _verdict(one: Comparison, method: str) -> str:
    against = one.against[method]
    if against.corrected >= LEVEL:
        return _NONE
    sign = 1 if one.task.greater_is_better else -1
    return "better than LoRA" if sign * against.difference.mean > 0 else "worse than LoRA"


def _difference_row(one: Comparison, method: str) -> tuple[str, ...]:
    against = one.against[method]
    mean, low, high, p = against.difference
    return (
        f"{one.task.name}, {one.budget}",
        method,
        f"{mean:+.3f}",
        f"{low:+.3f} to {high:+.3f}",
        f"{against.better} of {against.seeds}",
        f"{p:.4f}",
        f"{against.corrected:.3f}",
        _verdict(one, method),
    )


def _section(one: Comparison) -> str:
    task = one.task
    better = "higher" if task.greater_is_better else "lower"
    parts = [f"## {task.name}, {one.budget} adapters on {task.base}: {task.measured}, {better} is better"]
    parts.append(_fill(_setting(one)))
    if one.seeds:
        others = [name for name in next(iter(one.runs.values()))[0].test if name != task.measured]
        measures = (task.measured, "deviation", *others, "CPU s")
        columns = ("method", "ranks q, v, o", "parameters", "rate", *measures, "each seed")
        parts.append(_table(columns, [_method_row(one, method, others) for method in METHODS]))
    columns = ("validation, by rate", *(f"{rate:g}" for rate in sorted(task.rates)))
    parts.append(_table(columns, [_rate_row(one, method) for method in METHODS]))
    if edges := [method for method in METHODS if one.chosen[method].at_edge]:
        parts.append(
            _fill(f"Chosen at the edge of the rates tried, so a better one may lie beyond: {', '.join(edges)}.")
        )
    return "\n\n".join(parts)


def _setting(one: Comparison) -> str:
    task = one.task
    sizes = (
        f"{task.train} training examples, batches of {task.batch_size}, epochs: {task.epochs}; "
        f"{task.validation} validation examples"
    )
    runs = next(iter(one.runs.values()))
    tested = f"; {len(runs[0].outcomes)} test examples, {runs[0].steps} steps" if runs else ""
    layers = "all layers" if task.layers is None else f"layers {task.layers[0]} to {task.layers[1] - 1}"
    seeds = "" if one.seeds == len(SEEDS) else f" Seeds run so far: {one.seeds} of {len(SEEDS)}."
    return f"{sizes}{tested}; {layers}.{_alone(one)}{seeds}"


def _alone(one: Comparison) -> str:
    if one.alone is None:
        return ""
    score = one.alone.test[one.task.measured]
    what = "A linear classifier on the frozen base" if one.task.classifies else "The base without an adapter"
    return f" {what}: {score:.3f}."


def _method_row(one: Comparison, method: str, others: Sequence[str]) -> tuple[str, ...]:
    scores = scores_of(one, method)
    runs = one.runs[method]
    return (
        method,
        ranks_of(sites_of(method, one.task.base, one.budget)),
        f"{runs[0].parameters:,}",
        f"{one.chosen[method].rate:g}",
        f"{statistics.mean(scores):.3f}",
        f"{statistics.stdev(scores):.3f}" if len(scores) > 1 else "",
        *(f"{statistics.mean(run.test[name] for run in runs):.3f}" for name in others),
        f"{statistics.median(run.cpu_seconds for run in runs):.0f}",
        ", ".join(f"{score:.3f}" for score in scores),
    )


def _rate_row(one: Comparison, method: str) -> tuple[str, ...]:
    chosen = one.chosen[method]
    rates = sorted(chosen.scores.items())
    shown = {rate: "diverged" if score is None else f"{score:.3f}" for rate, score in rates}
    return (method, *(f"**{score}**" if rate == chosen.rate else score for rate, score in shown.items()))


def ranks_of(sites: Sites) -> str:
    """Return the ranks of q, v and o, of the head parts and of the shared parts."""
    present = sites.present()
    heads = [str(site.head.rank) for site in present.values() if site.head is not None]
    shared = [str(site.shared.rank) for site in present.values() if site.shared is not None]
    return "; ".join(f"{', '.join(ranks)} {word}" for ranks, word in ((heads, "a head"), (shared, "shared")) if ranks)


def _origin(results: Sequence[Result]) -> Iterator[str]:
    """Yield the machines, versions and dates of the runs, with the CPU time they took."""
    if not results:
        return
    yield "## Where the numbers are from"
    machines: dict[str, list[Result]] = {}
    for result in results:
        machines.setdefault(_machine(result.machine), []).append(result)
    for machine, runs in machines.items():
        dates = sorted({str(run.machine["date"]) for run in runs})
        when = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
        minutes = sum(run.cpu_seconds for run in runs) / 60
        took = f"{minutes:.0f} minutes" if minutes < 90 else f"{minutes / 60:.1f} hours"
        yield _fill(f"{len(runs)} runs on {when}, {took} of CPU time: {machine}.")


def _machine(machine: Mapping[str, str | int]) -> str:
    versions = ", ".join(f"{name} {machine[name]}" for name in VERSIONS if name in machine)
    return f"{machine['cpu']}, {machine['torch_threads']} thread of {machine['cores']} cores; {versions}"


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in (columns, ["---"] * len(columns), *rows))
