"""The runs' figures as Markdown, between two marks of docs/benchmarks.md, and as rows for the terminal."""

import textwrap
from collections.abc import Iterator, Sequence
from functools import partial

from benchmarks.marked import put_between
from benchmarks.yardstick.contenders.contender import Measured, Series
from benchmarks.yardstick.measurements.table import MEASUREMENTS
from benchmarks.yardstick.results.goals import GOALS, reach
from benchmarks.yardstick.results.report import Report, Runs
from benchmarks.yardstick.results.spread import floor_share, median_of, round_medians
from harness.percentile import percentile

BEGIN, END = "<!-- figures of benchmarks.jsonl, written by make bench -->", "<!-- end of the figures -->"
COLUMNS = ("measured", "contender", "median", "lowest to highest round", "p95", "p99", "of the floor")
VERSIONS = ("python", "torch", "transformers", "peft", "vllm", "llama-cpp-python")

_fill = partial(textwrap.fill, width=100, break_long_words=False, break_on_hyphens=False)


def render_figures(reports: Sequence[Report], pictures: Sequence[str] = ()) -> str:
    """Return the figures: pictures, the goals, where they come from, and one table of everything measured."""
    runs = Runs(reports)
    shown = in_order(runs)
    if not shown:
        return "No run yet."
    return "\n\n".join([*pictures, _goals(reach(runs)), *_origins(runs, shown), _table(runs, shown)])


def put_figures(page: str, figures: str) -> str:
    """Return the page with the figures between its marks.

    Raises:
        ValueError: the page does not have each mark once, in order.
    """
    return put_between(page, BEGIN, END, figures)


def in_order(runs: Runs) -> list[Measured]:
    """Return everything measured, in the order of the measurements; removed measurements come last."""
    places = {name: place for place, name in enumerate(MEASUREMENTS)}
    names = sorted(runs.names(), key=lambda name: places.get(name, len(places)))
    return [measured for name in names if (measured := runs.find(name)) is not None]


def rows(measured: Measured) -> Iterator[tuple[str, ...]]:
    """Yield the table's rows, one per contender."""
    for series in measured.series:
        yield (f"{measured.name}, {measured.unit}", series.name, *_cells(measured, series))


def _cells(measured: Measured, series: Series) -> tuple[str, ...]:
    if series.failure is not None:
        return (f"cannot run: {_one_line(series.failure)}", "", "", "", "")
    medians = round_medians(series)
    many = any(len(values) > 1 for values in series.rounds)
    tails = [_number(percentile(series.values, percent)) if many else "" for percent in (95, 99)]
    spread = f"{_number(min(medians))} to {_number(max(medians))}"
    share = floor_share(measured, series.name)
    of_floor = "" if share is None else f"{share:.0%} of {_number(measured.floors[series.name])}"
    return (_number(median_of(series)), spread, *tails, of_floor)


def _table(runs: Runs, shown: Sequence[Measured]) -> str:
    lines = [_row(COLUMNS), _row(["---"] * len(COLUMNS)), *(_row(row) for measured in shown for row in rows(measured))]
    explained = [_fill(f"* **{m.name}**: {m.what}.", subsequent_indent="  ") for m in shown]
    return "\n".join([*lines, "", *explained])


def _goals(values: dict[str, float | None]) -> str:
    lines = [_row(("goal", "key", "asked for", "measured")), _row(["---"] * 4)]
    for goal in GOALS:
        value = values[goal.key]
        asked = f"at least {goal.least:g}" if goal.least is not None else f"at most {goal.most:g}"
        shown = "not measured" if value is None else f"{value:.2f}{'' if goal.met(value) else ' (missed)'}"
        lines.append(_row((goal.what, f"`{goal.key}`", asked, shown)))
    return "\n".join(lines)


def _origins(runs: Runs, shown: Sequence[Measured]) -> Iterator[str]:
    """Yield where the figures come from: each machine with its versions, and the runs on it."""
    sources = [(one, [m.name for m in shown if runs.report_of(m.name) is one]) for one in runs.reports]
    used = [(report, names) for report, names in sources if names]
    for machine in dict.fromkeys(_machine(report) for report, _ in used):
        yield _fill(machine)
        yield "\n".join(_about(report, names) for report, names in used if _machine(report) == machine)


def _machine(report: Report) -> str:
    machine = report.machine
    versions = ", ".join(f"{name} {machine[name]}" for name in VERSIONS if name in machine)
    return (
        f"On {machine['cores']} cores of {machine['cpu']} ({machine['torch_threads']} computing threads); {versions}:"
    )


def _about(report: Report, names: Sequence[str]) -> str:
    ceilings = report.ceilings
    halves = "" if ceilings.bfloat16 is None else f"{ceilings.bfloat16 / 1e9:.0f} GFLOP/s bfloat16, "
    return _fill(
        f"* {report.machine['date']}, {report.seconds / 60:.0f} minutes, `{report.command}` for {', '.join(names)}; "
        f"measured in the same run: {ceilings.bandwidth / 1e9:.1f} GB/s read, {ceilings.float32 / 1e9:.0f} GFLOP/s "
        f"float32, {halves}{ceilings.int8 / 1e9:.0f} GOP/s int8.",
        subsequent_indent="  ",
    )


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _one_line(text: str) -> str:
    return " ".join(text.replace("|", "/").split())


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 1000 else f"{value:.3g}"
