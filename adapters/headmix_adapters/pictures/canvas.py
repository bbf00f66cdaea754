"""The paper that every picture is drawn on: its size, fonts and colours, and its file.

Owns how matplotlib is found and used. The same picture gives the same bytes.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from headmix_adapters.artifact.durable import write_durably
from headmix_adapters.printable import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PictureFormat = Literal["svg", "png"]
OURS, SECOND, TEXT, QUIET, GRID, ABSENT = "#e4572e", "#4a6d8c", "#24292f", "#57606a", "#d0d7de", "#eaeef2"
WIDTH_INCHES = 9.24
_PNG_DPI = 160


class PictureError(Exception):
    """A picture cannot be drawn; the message says what to do."""


def require_matplotlib() -> None:
    """Make sure that pictures can be drawn.

    Raises:
        PictureError: matplotlib is not installed.
    """
    if find_spec("matplotlib") is None:
        raise PictureError("pictures need matplotlib, which is not installed: pip install 'headmix[plot]'")


def picture_format(path: Path) -> PictureFormat:
    """Return the format that a file's name asks for.

    Raises:
        PictureError: it asks for another one.
    """
    for known in get_args(PictureFormat):
        if path.suffix.lower() == f".{known}":
            return known  # type: ignore[no-any-return]  # get_args gives Any
    raise PictureError(f"{path}: a picture's name ends with .svg or .png")


@contextmanager
def style() -> Iterator[None]:
    """Draw in this project's style during the block.

    Raises:
        PictureError: matplotlib is not installed.
    """
    require_matplotlib()
    from matplotlib import rc_context

    with rc_context(
        {
            "svg.fonttype": "none",
            "svg.hashsalt": "headmix",
            "font.family": "sans-serif",
            "font.size": 10,
            "text.parse_math": False,  # names of files and labels are not formulas
        }
    ):
        yield


def new_figure(height_inches: float, width_inches: float = WIDTH_INCHES) -> "Figure":
    """Return an empty picture; call it, and save the picture, within `style`."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_inches, height_inches), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.1, h_pad=0.08)  # type: ignore[union-attr, call-arg]
    return figure


def plain(axes: "Axes") -> None:
    """Leave the frame and the tick marks out."""
    axes.tick_params(axis="both", length=0, colors=QUIET)
    for side in axes.spines.values():
        side.set_visible(False)


def save(figure: "Figure", path: Path, title: str) -> None:
    """Write a picture to a file, all or nothing, in the format that its name asks for.

    Raises:
        PictureError: the name asks for another format.
        OSError: it cannot be written.
    """
    kind, written = picture_format(path), io.BytesIO()
    if kind == "svg":
        figure.savefig(written, format=kind, metadata={"Title": printable(title), "Date": None, "Creator": None})
    else:
        figure.savefig(written, format=kind, dpi=_PNG_DPI, metadata={"Software": None})
    write_durably(path, written.getvalue())
