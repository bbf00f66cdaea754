"""A run's learning curves as a picture: the loss of its steps, and the held-out loss and score."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from headmix_adapters.pictures.canvas import GRID, OURS, QUIET, SECOND, TEXT, new_figure, plain, save, style
from headmix_adapters.printable import printable
from headmix_adapters.train.history.events import Scored, Started
from headmix_adapters.train.history.history import History
from headmix_adapters.train.terminal.progress import readable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_HEIGHT_INCHES = 3.3
_LOSSES = ("loss", "answer_nll", "mean_squared_error")
_KEPT = 0.9
"""The share of the moving average that each step keeps, as on a terminal."""
_MOST_POINTS = 2_000


def draw_curves(history: History, name: str, path: Path) -> None:
    """Draw a run's curves.

    Raises:
        PictureError: matplotlib is not installed, or the file's name asks for an unknown format.
        OSError: the file cannot be written.
    """
    started = history.started
    has_score = started is not None and started.score_name not in _LOSSES
    with style():
        figure = new_figure(_HEIGHT_INCHES)
        panels = figure.subplots(1, 2 if has_score else 1, squeeze=False)[0]
        _draw_losses(panels[0], history, None if has_score else started)
        if started is not None and has_score:
            _draw_score(panels[1], history, started)
        for axes in panels:
            _frame(axes, history)
        figure.suptitle(printable(name), x=0.012, ha="left", color=TEXT, fontweight="bold", fontsize=11)
        save(figure, path, f"Learning curves of {name}")


def _draw_losses(axes: "Axes", history: History, reference: Started | None) -> None:
    """Draw the losses; `reference` has the base's, if the loss is the score that decides."""
    steps, losses = _thinned([(event.step, event.train_loss) for event in history.steps])
    axes.plot(steps, losses, color=SECOND, linewidth=0.7, alpha=0.3)
    axes.plot(steps, smoothed(losses), color=SECOND, label="training")
    held_out = [(event.step, event.valid_loss) for event in history.scored if event.valid_loss is not None]
    axes.plot([step for step, _ in held_out], [loss for _, loss in held_out], "o-", color=OURS, ms=4, label="held out")
    if reference is not None and reference.base is not None and reference.score_name in reference.base:
        _level(axes, reference.base[reference.score_name], "base")
    # A few steps far above the rest, as at the start of some runs, would flatten everything else.
    seen = [*smoothed(losses), *(loss for _, loss in held_out)]
    if seen:
        axes.set_ylim(0, 1.15 * max(seen))
    axes.set_title("Loss", loc="left", color=TEXT, fontsize=10.5)


def _draw_score(axes: "Axes", history: History, started: Started) -> None:
    scored = [event for event in history.scored if event.score is not None]
    axes.plot(_steps(scored), [event.score or 0.0 for event in scored], "o-", color=OURS, ms=4, label="held out")
    for scores, label in ((started.base, "base"), (started.linear_classifier, "linear classifier")):
        if scores is not None and started.score_name in scores:
            _level(axes, scores[started.score_name], label)
    name = readable(started.score_name)
    axes.set_title(f"Held-out {name}", loc="left", color=TEXT, fontsize=10.5)
    axes.margins(y=0.15)


def _level(axes: "Axes", value: float, label: str) -> None:
    axes.axhline(
        value, color=QUIET, linewidth=1, linestyle=(0, (4, 3)) if label == "base" else (0, (1, 2)), label=label
    )


def _frame(axes: "Axes", history: History) -> None:
    for event in history.scored:
        if event.epoch.is_integer():
            axes.axvline(event.step, color=GRID, linewidth=0.6, zorder=0)
    axes.set_xlabel("step" if not history.scored else "step; vertical lines are epochs", color=QUIET)
    axes.set_xlim(left=0)
    axes.grid(visible=True, axis="y", color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.legend(frameon=False, labelcolor=QUIET, fontsize=9)
    plain(axes)


def _steps(scored: Sequence[Scored]) -> list[int]:
    return [event.step for event in scored]


def _thinned(points: Sequence[tuple[int, float]]) -> tuple[list[int], list[float]]:
    """Return steps and losses of at most so many points, each the mean of its neighbours."""
    size = math.ceil(len(points) / _MOST_POINTS) or 1
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    return [group[-1][0] for group in groups], [math.fsum(loss for _, loss in group) / len(group) for group in groups]


def smoothed(losses: Sequence[float]) -> list[float]:
    """Return the moving average; its first values are the means of what there is."""
    averages, total, weight = [], 0.0, 0.0
    for loss in losses:
        total, weight = _KEPT * total + loss, _KEPT * weight + 1
        averages.append(total / weight)
    return averages
