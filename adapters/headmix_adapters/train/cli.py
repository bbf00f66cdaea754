"""`headmix train`: the command line around `run`. Errors become one line and an exit status.

Torch loads only when it is used.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from headmix_adapters.artifact import ArtifactError
from headmix_adapters.base import BaseError
from headmix_adapters.cpus import read_cpu_budget
from headmix_adapters.train.errors import Interrupted, TrainError
from headmix_adapters.train.recipe import Recipe, load_recipe, override
from headmix_adapters.train.report import Reporter

if TYPE_CHECKING:
    from headmix_adapters.train.material import Material

INTERRUPTED_STATUS = 130


def train(
    recipe: Annotated[Path, typer.Argument(help="The recipe, a TOML file.", show_default=False)],
    output: Annotated[
        Path | None,
        typer.Option(help="The artifact to write. Default: adapters/<name>.safetensors beside the recipe."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue from the last checkpoint.")] = False,
    seed: Annotated[int | None, typer.Option(help="Replaces the recipe's seed.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Replaces the recipe's epochs.")] = None,
    max_steps: Annotated[int | None, typer.Option(help="Ends training after this many optimizer steps.")] = None,
    eval_only: Annotated[
        bool, typer.Option("--eval-only", help="Train nothing: score the artifact that is there, and the base.")
    ] = False,
) -> None:
    """Train an adapter from a recipe, check it and write it with its held-out scores."""
    console = Console(stderr=True)
    reporter = Reporter(console, quiet=not console.is_terminal)
    try:
        chosen = override(load_recipe(recipe), seed=seed, epochs=epochs, max_steps=max_steps)
        artifact = output or recipe.parent / "adapters" / f"{chosen.name}.safetensors"
        material = _load(chosen, recipe.parent, reporter)
        if eval_only:
            _evaluate(material, artifact, reporter)
        else:
            _train(material, artifact, resume=resume, reporter=reporter)
    except Interrupted as stopped:
        reporter.say(
            f"{stopped}; continue with: headmix train {recipe} --resume" + _repeat(output, seed, epochs, max_steps)
        )
        raise typer.Exit(INTERRUPTED_STATUS) from stopped
    except KeyboardInterrupt as stopped:
        reporter.say("interrupted; --resume continues from the last checkpoint, where there is one")
        raise typer.Exit(INTERRUPTED_STATUS) from stopped
    except (TrainError, BaseError, ArtifactError, OSError) as error:
        reporter.say(f"error: {error}")
        raise typer.Exit(1) from error


def _load(recipe: Recipe, folder: Path, reporter: Reporter) -> "Material":
    from headmix_adapters.threads import limit_threads
    from headmix_adapters.train.material import load_material

    threads = limit_threads(read_cpu_budget())
    reporter.say(f"{recipe.name}: {recipe.task} on {recipe.base}, {threads} threads")
    material = load_material(recipe, folder)
    for name, encoded in (("train", material.train), ("eval", material.eval)):
        reporter.say(
            f"{name}: {len(encoded.examples)} examples, {encoded.tokens} tokens, "
            f"{encoded.truncated} cut to {recipe.data.max_length} tokens, {encoded.dropped} left out"
            + (f", {encoded.excluded} rows not to be learnt" if encoded.excluded else "")
        )
    return material


def _train(material: "Material", artifact: Path, *, resume: bool, reporter: Reporter) -> None:
    from headmix_adapters.train.run import train_adapter

    result = train_adapter(material, artifact, resume=resume, reporter=reporter)
    reporter.scores("base alone", result.base_scores)
    reporter.scores("adapter", result.scores)
    reporter.say(f"wrote {result.artifact} ({result.artifact.stat().st_size} bytes, {result.digest})")


def _evaluate(material: "Material", artifact: Path, reporter: Reporter) -> None:
    from headmix_adapters.train.score import score_artifact, score_base

    reporter.scores("adapter", score_artifact(material, artifact))
    reporter.scores("base alone", score_base(material))


def _repeat(output: Path | None, seed: int | None, epochs: int | None, max_steps: int | None) -> str:
    """Return the options that must be given again with `--resume`."""
    options = {"--output": output, "--seed": seed, "--epochs": epochs, "--max-steps": max_steps}
    return "".join(f" {name} {value}" for name, value in options.items() if value is not None)
