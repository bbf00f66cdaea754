"""Owns `headmix jobs`: training on the server, from a data file to an adapter that answers."""

from pathlib import Path
from typing import Annotated

import typer

from headmix.cli.commands.jobs.details import curl_of, print_job, print_jobs, print_scores
from headmix.cli.commands.jobs.follow_job import follow_job
from headmix.cli.output import JsonOption, print_json, say
from headmix.cli.progress import transfer_bar
from headmix.cli.session import Session
from headmix.client import Client
from headmix.types.jobs.fine_tuning import FineTuningJob, Hyperparameters, JobOptions

jobs_app = typer.Typer(no_args_is_help=True, help="Train adapters on the server from your data.")

JobId = Annotated[str, typer.Argument(metavar="JOB_ID", help="The job's id, as `headmix jobs list` shows it.")]
TASKS = ("classification", "generation")


@jobs_app.command()
def create(
    ctx: typer.Context,
    data: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, readable=True, help="The data: .jsonl, .json, .csv or .tsv."),
    ] = None,
    file: Annotated[str | None, typer.Option(metavar="FILE_ID", help="An uploaded file instead of --data.")] = None,
    eval_data: Annotated[
        Path | None,
        typer.Option("--eval", exists=True, dir_okay=False, help="Data to score with. Default: a tenth of --data."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="The adapter's name.")] = None,
    task: Annotated[str | None, typer.Option(help="`classification` or `generation`. Default: by the data.")] = None,
    labels: Annotated[str | None, typer.Option(help="In order, comma-separated. Default: those in the data.")] = None,
    preset: Annotated[str | None, typer.Option(help="Default: roberta-nlu to classify, gpt2-nlg to generate.")] = None,
    publish: Annotated[
        str, typer.Option(help="`current`, `beside`, or `canary:10` for that percentage of the requests.")
    ] = "current",
    ignore: Annotated[str | None, typer.Option(help="Fields of the data to ignore, comma-separated.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Default: enough for 100 optimizer steps.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Default: 16 to classify, 8 to generate.")] = None,
    learning_rate_multiplier: Annotated[float | None, typer.Option(help="Times the usual learning rate.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Default: random; the job shows it.")] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Show the progress until the job has ended.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Train an adapter: upload the data, create a job and, with --follow, wait for its scores."""
    if (data is None) == (file is None):
        raise typer.BadParameter("give --data or --file, one of them")
    given = {"n_epochs": epochs, "batch_size": batch_size, "learning_rate_multiplier": learning_rate_multiplier}
    hyperparameters = Hyperparameters(**{key: value for key, value in given.items() if value is not None})  # type: ignore[typeddict-item] # checked above
    options = read_options(task, labels, preset, publish, ignore)
    with Session.of(ctx).client() as client:
        training = file if data is None else _upload(client, data)
        job = client.fine_tuning.create(
            client.models.base().id,
            training or "",
            validation_file=None if eval_data is None else _upload(client, eval_data),
            suffix=name,
            seed=seed,
            hyperparameters=hyperparameters or None,
            options=options or None,
        )
        if follow:
            say(f"{job.id}: stop following with Ctrl-C; `headmix jobs follow {job.id}` goes on", err=True)
            job = follow_job(client, job)
    _print_end(ctx, job, as_json=as_json, followed=follow)


@jobs_app.command(name="list")
def list_jobs(ctx: typer.Context, as_json: JsonOption = False) -> None:
    """List your jobs, newest first."""
    with Session.of(ctx).client() as client:
        found = client.fine_tuning.list()
    if as_json:
        print_json(found)
    else:
        print_jobs(found)


@jobs_app.command()
def show(ctx: typer.Context, job_id: JobId, as_json: JsonOption = False) -> None:
    """Show a job: its status, progress, scores or error."""
    with Session.of(ctx).client() as client:
        job = client.fine_tuning.get(job_id)
    _print_end(ctx, job, as_json=as_json, followed=False)


@jobs_app.command()
def follow(ctx: typer.Context, job_id: JobId, as_json: JsonOption = False) -> None:
    """Show a job's progress until it has ended; the exit status is 1 unless it has succeeded."""
    with Session.of(ctx).client() as client:
        job = follow_job(client, client.fine_tuning.get(job_id))
    _print_end(ctx, job, as_json=as_json, followed=True)


@jobs_app.command()
def cancel(ctx: typer.Context, job_id: JobId) -> None:
    """Cancel a job; nothing is published."""
    with Session.of(ctx).client() as client:
        say(_stopping(client.fine_tuning.cancel(job_id)))


@jobs_app.command()
def pause(ctx: typer.Context, job_id: JobId) -> None:
    """Pause a job; a running one stops at its next step with a checkpoint."""
    with Session.of(ctx).client() as client:
        say(_stopping(client.fine_tuning.pause(job_id)))


@jobs_app.command()
def resume(ctx: typer.Context, job_id: JobId) -> None:
    """Let a paused job continue."""
    with Session.of(ctx).client() as client:
        say(_said(client.fine_tuning.resume(job_id)))


@jobs_app.command()
def results(
    ctx: typer.Context,
    job_id: JobId,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", file_okay=False, help="The folder. Default: JOB_ID here.")
    ] = None,
) -> None:
    """Save a job's result files: the figures by step, the curves and the head map."""
    with Session.of(ctx).client() as client:
        job = client.fine_tuning.get(job_id)
        folder = output or Path(Path(job_id).name)
        if not job.result_files:
            say(f"error: {job_id} has no result files; its status is {job.status}", err=True)
            raise typer.Exit(1)
        folder.mkdir(parents=True, exist_ok=True)
        for file_id in job.result_files:
            name = Path(client.files.get(file_id).filename).name
            say(f"saved {client.files.save(file_id, folder / name)}")


def read_options(
    task: str | None, labels: str | None, preset: str | None, publish: str, ignore: str | None
) -> JobOptions:
    """Parse what is not part of OpenAI's API; an invalid value is a usage error."""
    options = JobOptions()
    if task is not None:
        if task not in TASKS:
            raise typer.BadParameter(f"a task is {' or '.join(TASKS)}; not {task!r}")
        options["task"] = "classification" if task == TASKS[0] else "generation"
    if labels is not None:
        options["labels"] = _names(labels)
    if preset is not None:
        options["preset"] = preset
    if ignore is not None:
        options["ignore"] = _names(ignore)
    how, _, percent = publish.partition(":")
    if how == "canary" and percent.isdecimal():
        options["publish"] = {"canary": int(percent)}
    elif publish == "beside":
        options["publish"] = "beside"
    elif publish != "current":
        raise typer.BadParameter(f"publish takes current, beside or canary:PERCENT; not {publish!r}")
    return options


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _upload(client: Client, path: Path) -> str:
    with transfer_bar(f"uploading {path.name}") as progress:
        return client.files.upload(path, "fine-tune", progress=progress).id


def _said(job: FineTuningJob) -> str:
    return f"{job.id} is {job.status}"


def _stopping(job: FineTuningJob) -> str:
    return f"{job.id} still runs; its worker has been asked to stop" if job.status == "running" else _said(job)


def _print_end(ctx: typer.Context, job: FineTuningJob, *, as_json: bool, followed: bool) -> None:
    """Print a job; a followed one that did not succeed ends the program with status 1."""
    if as_json:
        print_json(job)
    elif followed and job.status == "succeeded":
        print_scores(job)
        say(f"{job.fine_tuned_model} is ready:")
        say(curl_of(Session.of(ctx).base_url, job))
    else:
        print_job(job)
    if followed and job.status != "succeeded":
        raise typer.Exit(1)
