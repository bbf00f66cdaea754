"""`headmix merge`: the command line for merging. Torch is loaded only when needed."""

from pathlib import Path
from typing import Annotated, NoReturn

import typer

from headmix_adapters.artifact import ArtifactError
from headmix_adapters.merge.errors import MergeError
from headmix_adapters.merge.options import DENSITY, SEEDED, MergeMethod, MergeOptions
from headmix_adapters.printable import printable


def merge(
    adapters: Annotated[list[str], typer.Argument(help="Two or more artifacts of one base.")],
    weights: Annotated[
        list[str], typer.Option(help="A weight for each adapter, in their order: --weights 0.7 0.3, or 1,-0.5.")
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="The artifact to write. Default: the adapters' names joined by +, in the current folder.",
            dir_okay=False,
        ),
    ] = None,
    method: Annotated[
        MergeMethod, typer.Option(help="join: the exact weighted sum. The others drop numbers, by PEFT's functions.")
    ] = "join",
    rank: Annotated[
        int | None, typer.Option(help="Lower larger ranks to this one by SVD, and report what that loses.")
    ] = None,
    density: Annotated[
        float | None, typer.Option(help=f"The share of numbers that ties and dare keep.  [default: {DENSITY}]")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Decides which numbers dare keeps.  [default: 0]", min=0)] = None,
    first_head: Annotated[
        bool, typer.Option("--first-head", help="Take the first adapter's classification head, whatever the others'.")
    ] = False,
    allow_base_mismatch: Annotated[
        bool, typer.Option(help="Accept adapters trained on other weights of the same dimensions.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing artifact.")] = False,
) -> None:
    """Merge adapters of one base into one that adds the weighted sum of what each of them adds."""
    try:
        paths, numbers = _told_apart(adapters, weights)
        target = output or Path(f"{'+'.join(path.stem for path in paths)}.safetensors")
        _require_free(target, force=force)
        _require_use_of(seed, method)
        from headmix_adapters.convert.result import save_converted
        from headmix_adapters.merge.merge import merge as merge_adapters

        options = MergeOptions(numbers, method, rank, density, seed or 0, first_head, allow_base_mismatch)
        merged = merge_adapters(paths, options)
        digest = save_converted(merged, target)
    except (ArtifactError, MergeError, OSError) as error:
        _fail(error)
    for note in merged.notes:
        typer.echo(printable(note), err=True)
    typer.echo(f"{target}: {digest}")


def _require_free(target: Path, *, force: bool) -> None:
    if target.exists() and not force:
        raise MergeError(str(target), "exists; --force replaces it")


def _require_use_of(seed: int | None, method: MergeMethod) -> None:
    if seed is not None and method not in SEEDED:
        raise MergeError("seed", f"belongs to {' and '.join(SEEDED)}; {method} draws nothing at random")


def _told_apart(adapters: list[str], weights: list[str]) -> tuple[list[Path], tuple[float, ...]]:
    """Return the files and the weights: the parser takes one word for an option, and any further ones for files."""
    words = [part for word in weights for part in word.split(",")]
    files = [word for word in adapters if _number(word) is None or Path(word).exists()]
    words += [word for word in adapters if word not in files]
    numbers = [_number(word) for word in words]
    for word, number in zip(words, numbers, strict=True):
        if number is None:
            raise MergeError("weights", f"{word} is not a number")
    for file in files:
        if not Path(file).is_file():
            raise MergeError("adapters", f"{file} is not a file")
    return [Path(file) for file in files], tuple(number for number in numbers if number is not None)


def _number(word: str) -> float | None:
    try:
        return float(word)
    except ValueError:
        return None


def _fail(error: Exception) -> NoReturn:
    """End the command: exit status 2 if the input cannot be used, 1 if the result cannot be written."""
    lines = [str(fault) for fault in error.faults] if isinstance(error, ArtifactError) else [str(error)]
    for line in lines:
        typer.echo(printable(line), err=True)
    raise typer.Exit(1 if isinstance(error, OSError) else 2)
