"""`headmix convert` and `headmix export`: the command line for conversion. Torch is loaded only when needed."""

from pathlib import Path
from typing import Annotated, Literal, NoReturn

import typer

from headmix_adapters.artifact import ArtifactError
from headmix_adapters.base import BaseError
from headmix_adapters.base.gguf.progress_bar import resolve_visibly
from headmix_adapters.config import Problem
from headmix_adapters.convert.errors import ConvertError
from headmix_adapters.printable import printable

ExportFormat = Literal["peft-lora", "peft-bdlora"]
BaseName = Annotated[
    str, typer.Option(help="The base: embedded name, folder, GGUF file or hub id.", show_default=False)
]


def convert(
    source: Annotated[
        Path,
        typer.Argument(
            help="A PEFT LoRA folder, a checkpoint of the authors' code (.bin), or heads' offsets (LoFiT, JoLA).",
            exists=True,
        ),
    ],
    out: Annotated[Path, typer.Argument(help="The artifact to write.", dir_okay=False)],
    base: BaseName,
    labels: Annotated[str | None, typer.Option(help="The classes' names in order, comma-separated.")] = None,
    problem: Annotated[Problem | None, typer.Option(help="The kind of problem.")] = None,
    task: Annotated[str | None, typer.Option(help="The task to take, if a checkpoint has several.")] = None,
    config: Annotated[
        Path | None, typer.Option(help="The checkpoint's config JSON with lora_alpha.", exists=True, dir_okay=False)
    ] = None,
    added_tokens: Annotated[
        str | None, typer.Option(help="Names of the vocabulary rows beyond the base's, comma-separated.")
    ] = None,
    chat_template: Annotated[
        Path | None,
        typer.Option(
            help="A jinja file: the chat template that the adapter was trained with. Default: the one in its folder.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    allow_base_mismatch: Annotated[
        bool,
        typer.Option(
            help="Accept a checkpoint whose frozen weights are not the base's, or a base whose tokenizer transformers "
            "reads differently."
        ),
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing artifact.")] = False,
) -> None:
    """Convert an adapter made elsewhere into an artifact that computes exactly the same, or report why it can't."""
    _require_free(out, force=force)
    from headmix_adapters.convert.peft.heads.heads import HeadWish
    from headmix_adapters.convert.result import save_converted
    from headmix_adapters.convert.source import ConvertOptions, convert_source

    options = ConvertOptions(
        head=HeadWish(_names(labels) or None, problem),
        task=task,
        config=config,
        added_tokens=_names(added_tokens),
        chat_template=chat_template,
        allow_base_mismatch=allow_base_mismatch,
    )
    try:
        converted = convert_source(source, resolve_visibly(base), options)
        digest = save_converted(converted, out)
    except (ArtifactError, ConvertError, BaseError, OSError) as error:
        _fail(error)
    for note in converted.notes:
        typer.echo(printable(note), err=True)
    typer.echo(f"{out}: {digest}")


def export(
    artifact: Annotated[Path, typer.Argument(help="The artifact.", exists=True, dir_okay=False)],
    out: Annotated[Path, typer.Argument(help="The folder to write.", file_okay=False)],
    base: BaseName,
    to: Annotated[
        ExportFormat,
        typer.Option(help="A plain LoRA (with biases), or PEFT's block-diagonal LoRA for head parts without biases."),
    ] = "peft-lora",
    allow_base_mismatch: Annotated[
        bool, typer.Option(help="Accept an adapter trained on other weights of the same dimensions.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace the adapter in the folder.")] = False,
) -> None:
    """Export an adapter as the exact LoRA that it equals, for other tools. A plain LoRA is several times its size."""
    _require_free(out / "adapter_model.safetensors", force=force)
    from headmix_adapters.convert.peft.export.export import export_peft_lora

    try:
        notes = export_peft_lora(artifact, out, resolve_visibly(base), to=to, allow_base_mismatch=allow_base_mismatch)
    except (ArtifactError, ConvertError, BaseError, OSError) as error:
        _fail(error)
    for note in notes:
        typer.echo(printable(note), err=True)
    typer.echo(str(out))


def _names(text: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",")) if text else ()


def _require_free(path: Path, *, force: bool) -> None:
    """End the command before any work if it would replace a file without permission to."""
    if path.exists() and not force:
        _fail(ConvertError(str(path), "exists; --force replaces it"))


def _fail(error: Exception) -> NoReturn:
    """End the command: exit status 2 if the input cannot be used, 1 if the result cannot be written."""
    lines = [str(fault) for fault in error.faults] if isinstance(error, ArtifactError) else [str(error)]
    for line in lines:
        typer.echo(printable(line), err=True)
    raise typer.Exit(1 if isinstance(error, OSError) else 2)
