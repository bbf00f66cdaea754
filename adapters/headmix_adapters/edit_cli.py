"""The `headmix edit` command: changes an artifact's description without touching its tensors."""

from pathlib import Path
from typing import Annotated, NoReturn

import msgspec
import typer

from headmix_adapters.artifact import ArtifactError
from headmix_adapters.artifact.edit import with_examples
from headmix_adapters.choices import choices_after
from headmix_adapters.config import ExamplePrompt
from headmix_adapters.printable import printable


class _Page(msgspec.Struct, frozen=True):
    """The part of a TOML file that is read here; a recipe is such a file."""

    examples: tuple[ExamplePrompt, ...]


def edit(
    path: Annotated[Path, typer.Argument(help="The artifact.", exists=True, dir_okay=False, readable=True)],
    out: Annotated[Path, typer.Argument(help="The artifact to write.", dir_okay=False)],
    examples: Annotated[
        Path,
        typer.Option(
            help="A TOML file with an array of tables `examples`, such as a recipe.", exists=True, dir_okay=False
        ),
    ],
    force: Annotated[bool, typer.Option("--force", help="Replace OUT if it exists.")] = False,
) -> None:
    """Write a copy of an adapter file with other example prompts. It computes the same and has another digest."""
    if out.exists() and not force:
        _fail(f"{out} exists; --force replaces it")
    try:
        page = msgspec.toml.decode(examples.read_bytes(), type=_Page)
    except msgspec.DecodeError as error:
        _fail(f"{examples}: {error}{choices_after(error, _Page)}")
    except (OSError, UnicodeDecodeError) as error:
        _fail(f"{examples}: {error}")
    try:
        digest = with_examples(path, out, page.examples)
    except ArtifactError as error:
        _fail(*(str(fault) for fault in error.faults))
    except OSError as error:
        _fail(str(error))
    typer.echo(f"{out}: {digest}")


def _fail(*lines: str) -> NoReturn:
    for line in lines:
        typer.echo(printable(line), err=True)
    raise typer.Exit(1)
