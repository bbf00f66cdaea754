"""The figures of a run as Markdown: the part of docs/benchmarks.md between two marks, and what the terminal shows."""

import textwrap
from collections.abc import Iterator, Sequence
from functools import partial

from benchmarks.yardstick.contenders.contender import Measured, Series
from benchmarks.yardstick.results.goals import GOALS, reach
from benchmarks.yardstick.results.report import Report, latest
from benchmarks.yardstick.results.spread import median_of, round_medians
from harness.percentile import percentile

BEGIN, END = "<!-- figures of benchmarks.jsonl, written by make bench -->", "<!-- end of the figures -->"
COLUMNS = ("measured", "contender", "median", "lowest to highest round", "p99", "of the floor")


_fill = partial(textwrap.fill, width=100, break_long_words=False, break_on_hyphens=False)


def render_figures(reports: Sequence[Report]) -> str:
    """Return the figures of the last runs: the goals, then one table of everything measured."""
    runs = [run for kind in ("bench", "vllm") if (run := latest(list(reports), kind)) is not None]
    if not runs:
        return "No run yet."
    values = reach(latest(list(reports), "bench"), latest(list(reports), "vllm"))
    return "\n\n".join([*map(_about, runs), _goals(values), *(_table(run) for run in runs)])


def put_figures(page: str, figures: str) -> str:
    """Return the page with the figures between its marks.

    Raises:
        ValueError: the page does not have each mark once, in order.
    """
    if page.count(BEGIN) != 1 or page.count(END) != 1 or page.index(END) < page.index(BEGIN):
        raise ValueError("the page has no place for the figures")
    before, after = page.split(BEGIN, maxsplit=1)[0], page.split(END)[1]
    return f"{before}{BEGIN}\n\n{figures}\n\n{END}{after}"


def rows(report: Report) -> Iterator[tuple[str, ...]]:
    """Yield the table's rows, one per contender and measurement."""
    for measured in report.measured:
        for series in measured.series:
            yield (f"{measured.name}, {measured.unit}", series.name, *_cells(measured, series))


def _cells(measured: Measured, series: Series) -> tuple[str, ...]:
    if series.failure is not None:
        return (f"cannot run: {_one_line(series.failure)}", "", "", "")
    medians = round_medians(series)
    many = any(len(values) > 1 for values in series.rounds)
    p99 = _number(percentile(series.values, 99)) if many else ""
    spread = f"{_number(min(medians))} to {_number(max(medians))}"
    return (_number(median_of(series)), spread, p99, _share(measured, series))


def _share(measured: Measured, series: Series) -> str:
    floor = measured.floors.get(series.name)
    if floor is None:
        return ""
    reached = median_of(series)
    share = floor / reached if measured.unit == "ms" else reached / floor
    return f"{share:.0%} of {_number(floor)}"


def _table(report: Report) -> str:
    lines = [_row(COLUMNS), _row(["---"] * len(COLUMNS)), *map(_row, rows(report))]
    explained = [_fill(f"* **{m.name}**: {m.what}.", subsequent_indent="  ") for m in report.measured]
    return "\n".join([*lines, "", *explained])


def _goals(values: dict[str, float | None]) -> str:
    lines = [_row(("goal", "key", "asked for", "measured")), _row(["---"] * 4)]
    for goal in GOALS:
        value = values[goal.key]
        asked = f"at least {goal.least:g}" if goal.least is not None else f"at most {goal.most:g}"
        shown = "not measured" if value is None else f"{value:.2f}{'' if goal.met(value) else ' (missed)'}"
        lines.append(_row((goal.what, f"`{goal.key}`", asked, shown)))
    return "\n".join(lines)


def _about(report: Report) -> str:
    machine, ceilings = report.machine, report.ceilings
    versions = ", ".join(f"{name} {machine[name]}" for name in VERSIONS if name in machine)
    return _fill(
        f"`{report.command}`, {machine['date']}, {report.seconds / 60:.0f} minutes, on {machine['cores']} cores of "
        f"{machine['cpu']} ({machine['torch_threads']} computing threads); {versions}. Measured in the same run: "
        f"{ceilings.bandwidth / 1e9:.1f} GB/s read, {ceilings.float32 / 1e9:.0f} GFLOP/s float32, "
        f"{ceilings.int8 / 1e9:.0f} GOP/s int8."
    )


VERSIONS = ("python", "torch", "transformers", "peft", "vllm")


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _one_line(text: str) -> str:
    return " ".join(text.replace("|", "/").split())


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 1000 else f"{value:.3g}"
