"""The command line of `headmix train`: a recipe, or the few options that make one. Does not load torch."""

import os
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console

from headmix_adapters.base import base_positions
from headmix_adapters.base.gguf.progress_bar import resolve_visibly
from headmix_adapters.config import Pooling, Problem, Task
from headmix_adapters.presets import PresetName
from headmix_adapters.train.command import Command, reported, run
from headmix_adapters.train.data.rows import read_rows
from headmix_adapters.train.errors import RecipeError
from headmix_adapters.train.publisher import Publisher
from headmix_adapters.train.recipe.quick_recipe import Wishes, quick_recipe
from headmix_adapters.train.recipe.recipe import Recipe, load_recipe, override
from headmix_adapters.train.recipe.recipe_file import write_recipe
from headmix_adapters.train.scoring.report import Reporter

QUICK = "Without a recipe"
_NOT_REPEATED = ("recipe", "resume", "force")
_RUNS = ("resume", "push", "events", "plot", "checkpoint_seconds")
_OF_TRAINING = (*_RUNS, "force", "epochs", "batch_size", "learning_rate", "max_steps")
_NOT_OF_A_RECIPE = (*_RUNS, "eval_only", "output", "sweep")


def train(
    ctx: typer.Context,
    recipe: Annotated[Path | None, typer.Argument(help="The recipe, a TOML file.", show_default=False)] = None,
    output: Annotated[
        Path | None,
        typer.Option(help="The artifact to write. Default: adapters/<name>.safetensors next to the recipe."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue from the last checkpoint.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing artifact (or recipe).")] = False,
    push: Annotated[bool, typer.Option("--push", help="Upload the adapter to a running server at the end.")] = False,
    eval_only: Annotated[
        bool, typer.Option("--eval-only", help="Don't train; score the existing artifact and the base.")
    ] = False,
    sweep: Annotated[
        bool,
        typer.Option(
            "--sweep", help="Train with each of several learning rates (or the recipe's [sweep]); keep the best."
        ),
    ] = False,
    events: Annotated[
        Path | None, typer.Option(help="Write the run's progress to this file, one JSON object per line.")
    ] = None,
    plot: Annotated[
        Literal["svg", "png", "none"], typer.Option(help="The format of the pictures next to the artifact.")
    ] = "svg",
    checkpoint_seconds: Annotated[
        float | None,
        typer.Option(min=0, help="Keep a checkpoint this often too, in seconds. Default: after each epoch only."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Override the recipe's seed.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Override the recipe's epochs.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Override the recipe's batch size.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Override the recipe's learning rate.")] = None,
    max_steps: Annotated[int | None, typer.Option(help="Stop after this many optimizer steps.")] = None,
    data: Annotated[
        Path | None, typer.Option(help="The training data (docs/training.md).", rich_help_panel=QUICK)
    ] = None,
    eval_data: Annotated[
        Path | None,
        typer.Option("--eval", help="Data to score with. Default: a tenth of --data.", rich_help_panel=QUICK),
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(help="The base: embedded name, folder, GGUF file or hub id.", rich_help_panel=QUICK),
    ] = None,
    name: Annotated[str | None, typer.Option(help="The adapter's name.", rich_help_panel=QUICK)] = None,
    task: Annotated[Task | None, typer.Option(help="Default: what the data is for.", rich_help_panel=QUICK)] = None,
    preset: Annotated[
        PresetName | None,
        typer.Option(help="Default: roberta-nlu to classify, gpt2-nlg to generate.", rich_help_panel=QUICK),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(help="In order, comma-separated. Default: those in the data.", rich_help_panel=QUICK),
    ] = None,
    problem: Annotated[
        Problem | None, typer.Option(help="Default: multi_label for `labels`.", rich_help_panel=QUICK)
    ] = None,
    pooling: Annotated[
        Pooling | None, typer.Option(help="Default: last; for an encoder mean.", rich_help_panel=QUICK)
    ] = None,
    max_length: Annotated[
        int | None,
        typer.Option(help="Maximum tokens per example. Default: 512, or the base's positions.", rich_help_panel=QUICK),
    ] = None,
    ignore: Annotated[
        str | None, typer.Option(help="Fields of the data to ignore, comma-separated.", rich_help_panel=QUICK)
    ] = None,
    init: Annotated[
        bool,
        typer.Option("--init", help="Don't train; write the recipe to RECIPE or <name>.toml.", rich_help_panel=QUICK),
    ] = False,
) -> None:
    """Train an adapter from a recipe, or from --data, --base and --name. Verifies it and writes it with its scores."""
    reporter = Reporter(Console(stderr=True))
    training = {
        "seed": seed,
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "max_steps": max_steps,
    }
    given = {key: value for key, value in training.items() if value is not None}
    quick: dict[str, Any] = {
        "eval": eval_data,
        "base": base,
        "name": name,
        "task": task,
        "preset": preset,
        "labels": _names(labels),
        "problem": problem,
        "pooling": pooling,
        "max_length": max_length,
        "ignore": _names(ignore),
    }
    with reported(reporter):
        _check_options(ctx)
        if data is None:
            path = recipe or Path()
            chosen, folder = override(load_recipe(path), given), path.parent
        else:
            folder = recipe.parent if init and recipe is not None else Path()
            chosen = _quick(data, quick, given, folder)
        if sweep:
            _check_sweep(chosen, given)
        if init:
            path = recipe or Path(f"{chosen.name}.toml")
            write_recipe(path, chosen, force=force)
            typer.echo(f"wrote {path}; train with: headmix train {shlex.quote(str(path))}")
            return
        artifact = output or folder / "adapters" / f"{chosen.name}.safetensors"
        command = Command(chosen, folder, artifact, _again(ctx), resume, force, eval_only, _publisher(ctx, push))
        command = replace(command, events=events, checkpoint_seconds=checkpoint_seconds, sweep=sweep)
        if chosen.sweep is not None and not sweep:
            reporter.say(f"without --sweep, [sweep] is not used: learning_rate is {chosen.training.learning_rate:g}")
        run(replace(command, plot=None if plot == "none" else plot), reporter)


def _check_options(ctx: typer.Context) -> None:
    """Refuse combinations of options in which one would have no effect."""
    params = ctx.params
    quick = ("eval_data", "base", "name", "task", "preset", "labels", "problem", "pooling", "max_length", "ignore")
    if params["data"] is None:
        if params["recipe"] is None:
            raise RecipeError("give a recipe, or --data with --base and --name")
        if foreign := [key for key in (*quick, "init") if params[key]]:
            raise RecipeError(f"{_option(foreign[0])} goes with --data; with a recipe, write it there")
    else:
        if params["recipe"] is not None and not params["init"]:
            raise RecipeError("give a recipe or --data, not both")
        if missing := [key for key in ("base", "name") if params[key] is None]:
            raise RecipeError(f"--data needs {_option(missing[0])} too")
    if params["sweep"] and params["eval_only"]:
        raise RecipeError("--eval-only is for one adapter, and --sweep trains several")
    if params["eval_only"] and (useless := _given(ctx, _OF_TRAINING)):
        raise RecipeError(f"{_option(useless[0])} is for training, and --eval-only trains nothing")
    if params["init"] and (useless := _given(ctx, _NOT_OF_A_RECIPE)):
        raise RecipeError(f"--init writes a recipe and nothing else: {_option(useless[0])} has no effect")


def _check_sweep(recipe: Recipe, given: dict[str, Any]) -> None:
    """Refuse a value for every run of a sweep that is in none of them, as `[sweep]` has values of its own for it."""
    if recipe.sweep is not None and recipe.sweep.learning_rate and "learning_rate" in given:
        raise RecipeError("--learning-rate has no effect on a sweep whose [sweep] has learning_rate")


def _given(ctx: typer.Context, names: tuple[str, ...]) -> list[str]:
    """Return those of the options that are on the command line, even with their default value."""
    sources = {name: ctx.get_parameter_source(name) for name in names}
    return [name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"]


def _option(key: str) -> str:
    return "--eval" if key == "eval_data" else f"--{key.replace('_', '-')}"


def _quick(data: Path, quick: dict[str, Any], training: dict[str, Any], folder: Path) -> Recipe:
    """Return the recipe that the options describe, with data files named relative to the folder it is for."""
    files = {"train": data, "eval": quick["eval"]}
    named = {
        key: str(path) if path is None or folder == Path() else os.path.relpath(path, folder)
        for key, path in files.items()
    }
    wishes = Wishes(
        **quick | {"train": named["train"], "eval": named["eval"] if quick["eval"] else None}, training=training
    )
    rows = read_rows(data)
    return quick_recipe(replace(wishes, positions=base_positions(resolve_visibly(wishes.base))), rows)


def _publisher(ctx: typer.Context, push: bool) -> Publisher | None:
    if not push:
        return None
    if not isinstance(ctx.obj, Publisher):
        raise RecipeError("--push is for the headmix command, which knows the server")
    return ctx.obj


def _again(ctx: typer.Context) -> str:
    """Return the command line that resumes this run: its own options plus `--resume`."""
    words = ["headmix", "train"]
    if ctx.params["recipe"] is not None:
        words.append(str(ctx.params["recipe"]))
    words.append("--resume")
    for option in ctx.command.params:
        value = ctx.params.get(option.name or "")
        if option.name in _NOT_REPEATED or value is None or value is False or value == option.default:
            continue
        words += [option.opts[0]] if value is True else [option.opts[0], str(value)]
    return shlex.join(words)


def _names(text: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",")) if text else ()
