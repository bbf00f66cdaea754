"""The `headmix compare` command: adapters next to each other, in a table, as JSON, or as a picture."""

from pathlib import Path
from typing import Annotated, NoReturn

import msgspec
import typer
from rich.console import Console

from headmix_adapters.artifact import Artifact, ArtifactError, open_artifact, verify_artifact
from headmix_adapters.base import BaseError
from headmix_adapters.base.gguf.progress_bar import resolve_visibly
from headmix_adapters.compare.comparison import Comparison, compare, compared, distinct_names
from headmix_adapters.compare.table import comparison_table
from headmix_adapters.headmap.head_map import HeadMap, map_heads
from headmix_adapters.pictures.canvas import PictureError, picture_format, require_matplotlib
from headmix_adapters.printable import printable, printable_json


def compare_adapters(
    paths: Annotated[
        list[Path],
        typer.Argument(help="The adapters' .safetensors files, two or more.", exists=True, dir_okay=False),
    ],
    plot: Annotated[Path | None, typer.Option(help="Draw the head maps side by side: a file, .svg or .png.")] = None,
    base: Annotated[str | None, typer.Option(help="The base of all. Default: the one that each header names.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")] = False,
) -> None:
    """Show adapters next to each other: scores, ranks, sizes, and how strongly each changes its base's heads."""
    if len(paths) < 2:
        raise typer.BadParameter("give two adapters or more")
    try:
        if plot is not None:
            picture_format(plot)
            require_matplotlib()
        comparison = _compare(paths, base, must_map=plot is not None or base is not None)
        if plot is not None:
            _draw(comparison, plot)
    except (ArtifactError, BaseError, PictureError, OSError) as error:
        _fail(error)
    if as_json:
        typer.echo(printable_json(msgspec.json.encode(comparison).decode()))
    else:
        _print(comparison)


def _compare(paths: list[Path], base: str | None, *, must_map: bool) -> Comparison:
    notes, adapters = [], []
    for path, name in zip(paths, distinct_names(paths), strict=True):
        artifact = open_artifact(path)
        try:
            head_map = _map(artifact, base)
        except BaseError as error:
            if must_map:
                raise
            head_map = None
            notes.append(f"{name} has no head map: {error}; name its base with --base")
        adapters.append(compared(artifact, name, head_map))
    return compare(adapters, notes)


def _map(artifact: Artifact, base: str | None) -> HeadMap:
    resolved = resolve_visibly(base or artifact.config.base.name)
    verify_artifact(artifact.path, base=resolved.shape, allow_base_mismatch=True)
    return map_heads(artifact, resolved)


def _draw(comparison: Comparison, plot: Path) -> None:
    from headmix_adapters.pictures.head_map import draw_head_maps

    draw_head_maps({one.name: one.head_map for one in comparison.adapters if one.head_map is not None}, plot)
    typer.echo(f"drew {plot}", err=True)


def _print(comparison: Comparison) -> None:
    Console().print(comparison_table(comparison))
    if comparison.correlation:
        alike = ", ".join(f"{site} {value:.2f}" for site, value in comparison.correlation.items())
        typer.echo(f"correlation of the head maps: {alike}")
    for note in comparison.notes:
        typer.echo(f"note: {printable(note)}")


def _fail(error: Exception) -> NoReturn:
    lines = [str(fault) for fault in error.faults] if isinstance(error, ArtifactError) else [str(error)]
    for line in lines:
        typer.echo(printable(line), err=True)
    raise typer.Exit(1)
