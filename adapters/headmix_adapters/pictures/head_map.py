"""Head maps as pictures: a row per layer, a column per head, a panel per site, one scale of colours for all.

Under grouped queries, a key/value head is as wide as the query heads that share it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from headmix_adapters.headmap.head_map import HeadMap
from headmix_adapters.pictures.canvas import ABSENT, QUIET, TEXT, WIDTH_INCHES, new_figure, plain, save, style
from headmix_adapters.printable import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap, Normalize
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

_COLOURS = ("#fff3ea", "#fbbf95", "#f07a4b", "#c43d14", "#5c1307")
_EXPLAINED = "How strongly each head was changed: the adapter's effect in percent of the base weight (Frobenius norms)"
_TITLES = {"q": "queries: q", "k": "keys: k", "v": "values: v", "o": "output: o", "gate_up": "up", "down": "down"}
_MLP_SHARE = 0.12
"""The width of a panel without heads, as a share of one with heads."""
_ROW_INCHES, _FRAME_INCHES, _HEIGHT = 0.155, 1.35, (2.6, 8.0)
_FLAT, _BESIDE = 12, 0.75
"""Maps of more layers stand side by side, each of this share of the usual width."""
_SOME_CELLS = 1_000
_MANY_CELLS = 6_000
"""With more cells than this, a panel of an SVG is a bitmap: a browser would take seconds over so many shapes."""


def draw_head_maps(maps: Mapping[str, HeadMap], path: Path) -> None:
    """Draw one adapter's head map, or several adapters' on the same scale; the keys are their names.

    Maps of many layers stand side by side, flat ones below each other.

    Raises:
        PictureError: matplotlib is not installed, or the file's name asks for an unknown format.
        OSError: the file cannot be written.
    """
    heights = [_height(one) for one in maps.values()]
    beside = len(maps) > 1 and max(one.num_layers for one in maps.values()) > _FLAT
    with style():
        if beside:
            figure = new_figure(max(heights), WIDTH_INCHES * _BESIDE * len(maps))
            parts = figure.subfigures(1, len(maps), squeeze=False)[0]
        else:
            figure = new_figure(sum(heights))
            parts = figure.subfigures(len(maps), 1, height_ratios=heights, squeeze=False)[:, 0]
        scale, colours = _scale(list(maps.values())), _colours()
        for part, (name, head_map) in zip(parts, maps.items(), strict=True):
            _draw(part, printable(name), head_map, scale, colours)
        parts[0 if beside else -1].supxlabel(_EXPLAINED, x=0.012, ha="left", color=QUIET, fontsize=9)
        save(figure, path, f"Head map of {', '.join(maps)}")


def _height(head_map: HeadMap) -> float:
    low, high = _HEIGHT
    return min(max(_FRAME_INCHES + _ROW_INCHES * head_map.num_layers, low), high)


def _colours() -> "Colormap":
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("headmix", _COLOURS).with_extremes(bad=ABSENT)


def _scale(maps: list[HeadMap]) -> "Normalize":
    from matplotlib.colors import Normalize

    values = [cells(head_map, site) for head_map in maps for site in head_map.sites]
    finite = np.concatenate([part[np.isfinite(part)].ravel() for part in values] or [np.zeros(0)])
    return Normalize(0.0, float(finite.max(initial=0.0)) or 1.0)


def cells(head_map: HeadMap, site: str) -> "NDArray[np.float64]":
    """Return a site's changes in percent, [layer, head]; not a number in layers that are not adapted."""
    own = np.array(head_map.sites[site].relative) * 100
    every = np.full((head_map.num_layers, own.shape[1]), np.nan)
    every[list(head_map.layers)] = own
    return every


def _draw(figure: "Figure", name: str, head_map: HeadMap, scale: "Normalize", colours: "Colormap") -> None:
    from matplotlib.cm import ScalarMappable

    sites = list(head_map.sites)
    widths = [1.0 if _has_heads(site) else _MLP_SHARE for site in sites]
    panels = figure.subplots(1, len(sites), sharey=True, width_ratios=widths, squeeze=False)[0]
    for axes, site in zip(panels, sites, strict=True):
        _panel(axes, head_map, site, scale, colours)
    panels[0].set_ylabel("layer", color=QUIET)
    panels[0].set_ylim(head_map.num_layers, 0)
    bar = figure.colorbar(ScalarMappable(scale, colours), ax=list(panels), pad=0.015, fraction=0.03, aspect=28)
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0, colors=QUIET)
    bar.ax.yaxis.set_major_formatter(lambda value, _: f"{value:.3g} %")
    figure.suptitle(name, x=0.012, ha="left", color=TEXT, fontweight="bold", fontsize=11)


def _has_heads(site: str) -> bool:
    return site in ("q", "k", "v", "o")


def _panel(axes: "Axes", head_map: HeadMap, site: str, scale: "Normalize", colours: "Colormap") -> None:
    values = cells(head_map, site)
    layers, heads = values.shape
    edges = np.linspace(0, head_map.num_heads, heads + 1)
    axes.pcolormesh(
        edges,
        np.arange(layers + 1),
        np.ma.masked_invalid(values),
        cmap=colours,
        norm=scale,
        edgecolors="white",
        linewidth=_line(values.size),
        rasterized=values.size > _MANY_CELLS,
    )
    axes.set_title(_TITLES[site], color=TEXT, fontsize=10.5)
    shown = _every(heads, 12)
    if _has_heads(site):
        axes.set_xticks((edges[:-1] + edges[1:])[shown] / 2, [str(number) for number in shown])
        axes.set_xlabel(_label(site, head_map), color=QUIET)
        _mark_not_adapted(axes, head_map)
    else:
        axes.set_xticks([])
    rows = _every(layers, 16)
    axes.set_yticks([row + 0.5 for row in rows], [str(row) for row in rows])
    plain(axes)


def _line(cells: int) -> float:
    """Return the width of the white lines between cells: thinner where cells are small, none in a bitmap."""
    return 0.6 if cells < _SOME_CELLS else 0.2 if cells <= _MANY_CELLS else 0.0


def _mark_not_adapted(axes: "Axes", head_map: HeadMap) -> None:
    """Write into the tallest block of layers that are not adapted, if it has room."""
    free = [layer for layer in range(head_map.num_layers) if layer not in head_map.layers]
    blocks: list[list[int]] = []
    for layer in free:
        if blocks and layer == blocks[-1][-1] + 1:
            blocks[-1].append(layer)
        else:
            blocks.append([layer])
    tallest = max(blocks, key=len, default=[])
    if len(tallest) > 2:
        middle = (tallest[0] + tallest[-1] + 1) / 2
        axes.text(head_map.num_heads / 2, middle, "not adapted", ha="center", va="center", color=QUIET, fontsize=9)


def _label(site: str, head_map: HeadMap) -> str:
    if site in ("q", "o") or head_map.num_kv_heads == head_map.num_heads:
        return "head"
    return f"key/value head,\neach for {head_map.num_heads // head_map.num_kv_heads} query heads"


def _every(count: int, most: int) -> list[int]:
    """Return at most `most` of the numbers below `count`, evenly spaced from 0."""
    step = next(step for step in (1, 2, 5, 10, 20, 50, 100, 1000) if count <= step * most)
    return list(range(0, count, step))
