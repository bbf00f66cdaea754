"""What `headmix train` does with a recipe: load, train or score, print the summary, push. Errors become exit statuses.

Torch is loaded only when it is used.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console

from headmix_adapters.artifact import ArtifactError, open_artifact
from headmix_adapters.base import BaseError
from headmix_adapters.base.gguf.progress_bar import resolve_visibly
from headmix_adapters.machine.cpus import read_cpu_budget
from headmix_adapters.pictures.canvas import PictureFormat
from headmix_adapters.train.errors import DataError, DivergedError, Interrupted, RecipeError, TargetError, TrainError
from headmix_adapters.train.held_out_record import remark_on_rows
from headmix_adapters.train.history.event_log import EventLog, open_events
from headmix_adapters.train.history.events import Diverged, Done, Event, Failed, Interruption
from headmix_adapters.train.publisher import Publisher
from headmix_adapters.train.recipe.recipe import Recipe
from headmix_adapters.train.scoring.report import Reporter
from headmix_adapters.train.terminal.quiet import quiet_packages

if TYPE_CHECKING:
    from headmix_adapters.train.prepare import Material
    from headmix_adapters.train.save import Result

FAILED, REFUSED, NOT_PUSHED, DIVERGED, INTERRUPTED = 1, 2, 3, 4, 130
"""The exit statuses: the run failed; bad input, nothing was done; the adapter is not good enough to push; the loss
diverged; Ctrl-C."""

_ERRORS = (TrainError, BaseError, ArtifactError, OSError)


@dataclass(frozen=True, slots=True)
class Command:
    """One invocation: the recipe, the folder its paths are relative to, and where the artifact goes.

    `again` is the command line that resumes the run, `events` the file that follows it, `plot` the pictures' format,
    `checkpoint_seconds` how often it keeps a checkpoint besides those after each epoch. `sweep` trains several.
    """

    recipe: Recipe
    folder: Path
    artifact: Path
    again: str
    resume: bool = False
    force: bool = False
    eval_only: bool = False
    publisher: Publisher | None = None
    events: Path | None = None
    plot: PictureFormat | None = "svg"
    checkpoint_seconds: float | None = None
    sweep: bool = False


@contextmanager
def reported(reporter: Reporter) -> Iterator[None]:
    """End the command with a one-line message and an exit status on any error that is not a bug."""
    try:
        with quiet_packages():
            yield
    except _ERRORS as error:
        reporter.say(f"error: {_one_line(error)}")
        raise typer.Exit(exit_status(error)) from error


def exit_status(error: BaseException) -> int:
    """Return the exit status of a command that ends with an error."""
    if isinstance(error, (Interrupted, KeyboardInterrupt)):
        return INTERRUPTED
    if isinstance(error, DivergedError):
        return DIVERGED
    return REFUSED if isinstance(error, (RecipeError, DataError, TargetError, BaseError, ArtifactError)) else FAILED


def run(command: Command, reporter: Reporter) -> None:
    """Train, or score an existing artifact.

    Raises:
        typer.Exit: the run was interrupted, or the adapter was not pushed.
        TrainError, BaseError, ArtifactError, OSError: the run failed.
    """
    from headmix_adapters.train.checkpoints.run_folder import RunFolder
    from headmix_adapters.train.sweep.sweep_folder import SweepFolder

    folder, sweep = RunFolder(command.artifact), SweepFolder(command.artifact)
    if command.sweep:
        sweep.require_startable(resume=command.resume)
        folder.require_startable(resume=False, force=command.force or command.resume)
    elif not command.eval_only:
        folder.require_startable(resume=command.resume, force=command.force)
    with _events(command) as events:
        if command.publisher is not None:
            command.publisher.check_access()
        try:
            material = _load(command, reporter)
            if command.eval_only:
                _evaluate(material, command.artifact, reporter)
                return
            train = _sweep if command.sweep else _train
            result = train(material, command, reporter, events)
            if events is not None:
                events.write(_done_event(result))
        except (Interrupted, KeyboardInterrupt) as stopped:
            what = str(stopped) or "interrupted"
            kept = not command.eval_only and (folder.last_checkpoint() is not None or sweep.begun)
            end = f"continue with: {command.again}" if kept else "there is no checkpoint to resume"
            reporter.say(f"{what}; {end}")
            raise typer.Exit(INTERRUPTED) from stopped
    _push(result, material, command, reporter)


@contextmanager
def _events(command: Command) -> Iterator[EventLog | None]:
    """Open the file of `--events`, and write to it how the block ends if it fails."""
    if command.events is None:
        yield None
        return
    with open_events(command.events, resume=command.resume) as events:
        try:
            yield events
        except typer.Exit as stopped:
            events.write(stop_event(stopped.__cause__, stopped.exit_code))
            raise
        except _ERRORS as error:
            events.write(stop_event(error, exit_status(error)))
            raise


def stop_event(error: BaseException | None, status: int) -> Event:
    """Return the last event of a run that ends without an artifact."""
    message = "interrupted" if error is None else _one_line(error)
    if isinstance(error, DivergedError):
        return Diverged(status=status, step=error.step, message=message)
    if status == INTERRUPTED:
        return Interruption(status=status, message=message)
    return Failed(status=status, message=message)


def _load(command: Command, reporter: Reporter) -> "Material":
    recipe = command.recipe
    resolve_visibly(recipe.base)  # a conversion has its own progress bar, which must not be shown next to a spinner
    with reporter.stage("loading the base and reading the data"):
        from headmix_adapters.machine.threads import limit_threads
        from headmix_adapters.train.prepare import load_material

        threads = limit_threads(read_cpu_budget())
        reporter.say(f"{recipe.name}: {recipe.task} on {recipe.base}, {threads} threads")
        material = load_material(recipe, command.folder)
    for name, encoded in (("train", material.train), ("eval", material.eval)):
        reporter.say(
            f"{name}: {len(encoded.examples)} examples, {encoded.tokens} tokens, "
            f"{encoded.truncated} cut to {recipe.data.max_length} tokens, {encoded.dropped} left out"
            + (f", {encoded.excluded} not learned" if encoded.excluded else "")
        )
    for note in material.notes:
        reporter.say(note)
    if recipe.examples is None and (count := len(material.config.examples)):
        reporter.say(
            f"the artifact will show {count} of the held-out texts as example prompts; "
            "write `examples = []` in the recipe to hide them"
        )
    return material


def _train(material: "Material", command: Command, reporter: Reporter, events: EventLog | None) -> "Result":
    from headmix_adapters.train.run import train_adapter
    from headmix_adapters.train.scoring.closing import print_closing

    result = train_adapter(
        material,
        command.artifact,
        resume=command.resume,
        reporter=reporter,
        force=command.force,
        events=events,
        checkpoint_seconds=command.checkpoint_seconds,
    )
    print_closing(Console(), material, result)
    _draw(result, material, command, reporter)
    return result


def _done_event(result: "Result") -> Done:
    return Done(
        artifact=str(result.artifact),
        digest=result.digest,
        steps=result.steps,
        scores=result.adapter.scores,
        below_base=result.below_base,
    )


def _sweep(material: "Material", command: Command, reporter: Reporter, events: EventLog | None) -> "Result":
    """Train the recipe's candidates; the best one's adapter is the result."""
    from headmix_adapters.train.scoring.closing import print_closing
    from headmix_adapters.train.sweep.grid import candidates
    from headmix_adapters.train.sweep.sweep import run_sweep
    from headmix_adapters.train.sweep.table import print_sweep

    sweep = run_sweep(
        material,
        candidates(command.recipe),
        command.artifact,
        resume=command.resume,
        reporter=reporter,
        force=command.force,
        events=events,
        checkpoint_seconds=command.checkpoint_seconds,
    )
    print_sweep(Console(), sweep)
    print_closing(Console(), material, sweep.result)
    _draw(sweep.result, material, command, reporter)
    return sweep.result


def _draw(result: "Result", material: "Material", command: Command, reporter: Reporter) -> None:
    from headmix_adapters.pictures.run_pictures import draw_run

    if said := draw_run(result.artifact, material.base, command.plot):
        reporter.say(said)


def _evaluate(material: "Material", artifact: Path, reporter: Reporter) -> None:
    """Score an artifact and the base.

    Raises:
        RecipeError: the artifact may have learned the held-out rows.
    """
    from headmix_adapters.train.save import training_record
    from headmix_adapters.train.scoring.closing import print_table
    from headmix_adapters.train.scoring.score import score_artifact, score_base

    remark = remark_on_rows(open_artifact(artifact).config.training, training_record(material, steps=0))
    with reporter.stage("scoring the adapter"):
        adapter = score_artifact(material, artifact)
    with reporter.stage("scoring the base without an adapter"):
        base = score_base(material)
    print_table(Console(), material, {"base": base, "adapter": adapter})
    if remark is not None:
        typer.echo(remark)


def _push(result: "Result", material: "Material", command: Command, reporter: Reporter) -> None:
    if command.publisher is None:
        return
    by_hand = f"headmix adapters push {command.recipe.name} {result.artifact}"
    if result.below_base:
        reporter.say(f"not pushed, because it scores below its base; to push it anyway: {by_hand}")
        raise typer.Exit(NOT_PUSHED)
    try:
        pushed = command.publisher.push_adapter(command.recipe.name, result.artifact)
    except typer.Exit:
        reporter.say(f"the adapter is written, but not pushed; to try again: {by_hand}")
        raise
    typer.echo(f"pushed {pushed}")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
