"""What the benchmarks' pictures share: colours, fonts, and SVG whose bytes depend on nothing but the figures."""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

OURS, THEIRS, TEXT, QUIET, LINES = "#e4572e", "#8c9bab", "#24292f", "#57606a", "#d0d7de"
WIDTH_INCHES = 9.24
_PROGRAM = re.compile(r"<!--.*?-->\n?", re.DOTALL)


@contextmanager
def styled() -> Iterator[None]:
    """Draw with the pictures' font, and with a fixed salt, so that equal figures give equal bytes."""
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "headmix", "font.family": "sans-serif", "font.size": 10}):
        yield


def empty_figure(height: float) -> Figure:
    """Return a figure of the pages' width."""
    figure = Figure(figsize=(WIDTH_INCHES, height), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.12)  # type: ignore[union-attr, call-arg]
    return figure


def without_frame(axes: Axes) -> None:
    """Leave out ticks and frame."""
    axes.tick_params(axis="both", which="both", length=0, colors=QUIET)
    axes.set_axisbelow(True)
    for side in axes.spines.values():
        side.set_visible(False)


def to_svg(figure: Figure, title: str) -> str:
    """Return a figure as SVG."""
    written = io.StringIO()
    figure.savefig(written, format="svg", metadata={"Title": title, "Date": None, "Creator": None})
    return _PROGRAM.sub("", written.getvalue())
