"""The `headmix inspect` and `headmix verify` commands.

Owns what the two print. `artifact` reads and verifies the file; `base` finds bases.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NoReturn

import msgspec
import typer
from msgspec import UNSET
from rich.console import Console
from rich.table import Table
from rich.text import Text

from headmix_adapters.artifact import Artifact, ArtifactError, digest_file, open_artifact, verify_artifact
from headmix_adapters.artifact.faults import quoted
from headmix_adapters.base import BaseError
from headmix_adapters.base.gguf.progress_bar import resolve_visibly
from headmix_adapters.config import SiteConfig
from headmix_adapters.pictures.canvas import PictureError, picture_format, require_matplotlib
from headmix_adapters.printable import printable, printable_json

MAX_WORDS = 20

ArtifactPath = Annotated[
    Path, typer.Argument(help="The adapter's .safetensors file.", exists=True, dir_okay=False, readable=True)
]


def inspect(
    path: ArtifactPath,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")] = False,
    plot: Annotated[
        Path | None, typer.Option(help="Draw how strongly each head was changed: a file, .svg or .png.")
    ] = None,
    base: Annotated[
        str | None, typer.Option(help="For --plot: the base. Default: the one that the header names.")
    ] = None,
) -> None:
    """Show an adapter file's header, and draw its head map."""
    if base is not None and plot is None:
        raise typer.BadParameter("--base is for --plot")
    try:
        artifact = open_artifact(path)
        if plot is not None:
            _draw(artifact, base, plot)
    except (ArtifactError, BaseError, PictureError, OSError) as error:
        _fail(error)
    if as_json:
        typer.echo(printable_json(msgspec.json.encode(describe(artifact)).decode()))
    else:
        Console().print(_table(artifact))


def verify(
    path: ArtifactPath,
    base: Annotated[
        str | None,
        typer.Option(help="Also check against this base: embedded name, folder, GGUF file or hub id."),
    ] = None,
    allow_base_mismatch: Annotated[
        bool, typer.Option(help="Accept an adapter trained on other weights of the same dimensions.")
    ] = False,
) -> None:
    """Check an adapter file in full, as the server does at upload. One line per fault, exit status 1."""
    try:
        shape = None if base is None else resolve_visibly(base).shape
        verify_artifact(path, base=shape, allow_base_mismatch=allow_base_mismatch)
        digest = digest_file(path)
    except (ArtifactError, BaseError, OSError) as error:
        _fail(error)
    typer.echo(f"{path}: sound, {digest}")


def describe(artifact: Artifact) -> dict[str, object]:
    """Return everything `inspect --json` prints."""
    config = artifact.config
    return {
        "path": str(artifact.path),
        "digest": digest_file(artifact.path),
        "bytes": artifact.size_bytes,
        "parameters": artifact.num_parameters,
        "dtypes": sorted({entry.dtype for entry in artifact.tensors.values()}),
        "layers": list(artifact.layers),
        **msgspec.to_builtins(config),
    }


def _draw(artifact: Artifact, base: str | None, plot: Path) -> None:
    """Draw an artifact's head map; its values are checked first, since a picture of broken ones shows nothing."""
    picture_format(plot)
    require_matplotlib()
    from headmix_adapters.headmap import map_heads
    from headmix_adapters.pictures.head_map import draw_head_maps

    resolved = resolve_visibly(base or artifact.config.base.name)
    verify_artifact(artifact.path, base=resolved.shape, allow_base_mismatch=True)
    if resolved.shape.fingerprint != artifact.config.base.fingerprint:
        typer.echo(f"note: the adapter was trained on other weights than {printable(resolved.name)}'s", err=True)
    draw_head_maps({artifact.path.stem: map_heads(artifact, resolved)}, plot)
    typer.echo(f"drew {plot}", err=True)


def _table(artifact: Artifact) -> Table:
    """Return two columns; all text from the file is quoted, so that it cannot control the terminal."""
    config, base = artifact.config, artifact.config.base
    table = Table(show_header=False, title=quoted(artifact.path.name), title_justify="left")
    table.add_column(style="bold")
    table.add_column(overflow="fold")

    def row(name: str, *values: str) -> None:
        table.add_row(name, Text("\n".join(quoted(value) for value in values)))

    row("digest", digest_file(artifact.path))
    row("method, task", f"{config.method}, {config.task}")
    row("base", f"{base.name} ({base.model_type})", base.fingerprint)
    row(
        "",
        f"{base.num_layers} layers of {base.num_heads} heads, {base.num_kv_heads} key/value heads of {base.head_dim}",
    )
    for name, site in config.sites.present().items():
        row(f"site {name}", *_parts(site))
    row("layers", _ranges(artifact.layers))
    row("parameters", f"{artifact.num_parameters:,}")
    row("bytes", f"{artifact.size_bytes:,}")
    if config.classifier is not None:
        head = config.classifier
        past = "" if head.pad_token is UNSET else f" that is not of token {head.pad_token}"
        row("classifier", f"{head.kind} on the {head.pooling} state{past}, {head.problem}")
        row("labels", *_some(head.labels))
    if config.added_tokens:
        row("added tokens", *_some(config.added_tokens))
    if config.chat_template:
        row("chat template", f"its own, {len(config.chat_template.encode()):,} bytes (--json shows it)")
    for example in config.examples:
        row("example", example.prompt, *([f"-> {example.expect}"] if example.expect else []))
    for key, value in config.training.items():
        row(f"training: {quoted(key)}", msgspec.json.encode(value).decode())
    row("created by", config.created_by or "unknown")
    return table


def _parts(site: SiteConfig) -> list[str]:
    parts: list[str] = []
    if site.head is not None:
        bias = "with bias" if site.head.bias else "no bias"
        parts.append(f"per head on {site.head.base}: rank {site.head.rank}, scale {site.head.scale:g}, {bias}")
    if site.shared is not None:
        parts.append(f"shared: rank {site.shared.rank}, scale {site.shared.scale:g}")
    return parts


def _ranges(numbers: Sequence[int]) -> str:
    """Return ascending numbers as people write them: `0-5, 8`."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs) or "none"


def _some(words: Sequence[str]) -> list[str]:
    hidden = len(words) - MAX_WORDS
    return [*words[:MAX_WORDS], f"... and {hidden} more"] if hidden > 0 else list(words)


def _fail(error: Exception) -> NoReturn:
    lines = [str(fault) for fault in error.faults] if isinstance(error, ArtifactError) else [str(error)]
    for line in lines:
        typer.echo(printable(line), err=True)
    raise typer.Exit(1)
