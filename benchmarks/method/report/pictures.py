"""The pictures of docs/method.md: the test scores of every seed, and the validation scores of every learning rate."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np
from matplotlib.axes import Axes

from benchmarks.method.methods import BD_LORA, KERNEL_MIX, LITE, LORA, METHODS
from benchmarks.method.report.comparison import Comparison, scores_of
from benchmarks.svg import LINES, OURS, QUIET, TEXT, THEIRS, empty_figure, styled, to_svg, without_frame

SCORES, RATES = "method-scores.svg", "method-rates.svg"
TITLES: Mapping[str, str] = MappingProxyType(
    {
        SCORES: "Test scores: a dot per seed, a line at their mean",
        RATES: "Validation scores of every learning rate; the one chosen is filled",
    }
)
COLOURS: Mapping[str, str] = MappingProxyType({KERNEL_MIX: OURS, LITE: "#f2a541", LORA: THEIRS, BD_LORA: "#3d6cb9"})
_COLUMNS, _ROW_INCHES = 2, 2.1


def draw_pictures(comparisons: Sequence[Comparison]) -> dict[str, str]:
    """Return the pictures as SVG by file name; those with nothing to show are left out."""
    scored = [one for one in comparisons if one.seeds]
    drawn = {}
    if scored:
        drawn[SCORES] = _panels(scored, TITLES[SCORES], _draw_scores)
    if comparisons:
        drawn[RATES] = _panels(comparisons, TITLES[RATES], _draw_rates)
    return drawn


def _panels(comparisons: Sequence[Comparison], title: str, draw: Callable[[Axes, Comparison], None]) -> str:
    columns = min(_COLUMNS, len(comparisons))
    rows = -(-len(comparisons) // columns)
    with styled():
        figure = empty_figure(0.8 + rows * _ROW_INCHES)
        figure.suptitle(title, x=0.01, ha="left", color=TEXT, fontweight="bold", fontsize=12)
        for place, comparison in enumerate(comparisons, 1):
            axes = figure.add_subplot(rows, columns, place)
            draw(axes, comparison)
            better = "higher" if comparison.task.greater_is_better else "lower"
            name = f"{comparison.task.name}, {comparison.budget}"
            axes.set_title(f"{name}: {comparison.task.measured}, {better} is better", loc="left", fontsize=10)
            without_frame(axes)
        if lines := axes.get_legend_handles_labels()[0]:
            figure.legend(lines, METHODS, loc="outside lower left", ncols=len(METHODS), frameon=False, labelcolor=QUIET)
        return to_svg(figure, title)


def _draw_scores(axes: Axes, comparison: Comparison) -> None:
    for place, method in enumerate(METHODS):
        scores = scores_of(comparison, method)
        offsets = place + np.linspace(-0.18, 0.18, len(scores)) if len(scores) > 1 else [place]
        axes.scatter(scores, offsets, s=22, color=COLOURS[method], linewidths=0)
        mean = sum(scores) / len(scores)
        axes.plot([mean, mean], [place - 0.34, place + 0.34], color=TEXT, linewidth=1.2)
    axes.set_yticks(range(len(METHODS)), METHODS)
    axes.invert_yaxis()
    axes.grid(visible=True, axis="x", color=LINES, linewidth=0.6)


def _draw_rates(axes: Axes, comparison: Comparison) -> None:
    for method in METHODS:
        chosen = comparison.chosen[method]
        found = {rate: score for rate, score in sorted(chosen.scores.items()) if score is not None}
        colour = COLOURS[method]
        axes.plot(
            list(found),
            list(found.values()),
            color=colour,
            linewidth=1.4,
            marker="o",
            markersize=5,
            mfc="white",
            label=method,
        )
        axes.plot([chosen.rate], [found[chosen.rate]], color=colour, marker="o", markersize=7, zorder=3)
    axes.set_xscale("log")
    rates = sorted(comparison.task.rates)
    axes.set_xticks(rates, [f"{rate:g}" for rate in rates])
    axes.set_xticks([], minor=True)
    axes.grid(visible=True, axis="y", color=LINES, linewidth=0.6)
