"""Owns `headmix batches`: files of requests that are answered when there is room."""

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as ProgressBar

from headmix.cli.output import JsonOption, moment, print_fields, print_json, print_table, say
from headmix.cli.progress import transfer_bar
from headmix.cli.session import Session
from headmix.client import Client
from headmix.types.jobs.batch import Batch

FOLLOW_SECONDS = 2.0
FILE_ID = "file-"

batches_app = typer.Typer(no_args_is_help=True, help="Files of requests that are answered when there is room.")

BatchArgument = Annotated[str, typer.Argument(metavar="BATCH", help="The batch's id.")]


@batches_app.command()
def create(
    ctx: typer.Context,
    source: Annotated[
        str, typer.Argument(metavar="FILE", help="A file of requests to upload, or the id of an uploaded one.")
    ],
    endpoint: Annotated[str, typer.Option(help="The route that every line calls.")] = "/v1/chat/completions",
    window: Annotated[str, typer.Option(help="When it ends whatever is missing: 30m, 24h, 7d.")] = "24h",
    follow: Annotated[bool, typer.Option("--follow", help="Wait for its end, as `follow` does.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Have a file of requests answered."""
    with Session.of(ctx).client() as client:
        file_id = source if source.startswith(FILE_ID) else _upload(client, Path(source))
        batch = client.batches.create(file_id, endpoint, completion_window=window)
        if follow:
            batch = _follow(client, batch)
    _show(batch, as_json=as_json)
    if follow:
        _end(batch)


@batches_app.command("list")
def list_batches(ctx: typer.Context, as_json: JsonOption = False) -> None:
    """List your batches, newest first."""
    with Session.of(ctx).client() as client:
        found = client.batches.list()
    if as_json:
        print_json(found)
        return
    rows = [
        (batch.id, batch.status, _counted(batch), batch.endpoint, moment(batch.created_at), batch.output_file_id)
        for batch in found
    ]
    print_table(("batch", "status", "lines", "endpoint", "created", "output"), rows)


@batches_app.command()
def show(ctx: typer.Context, batch_id: BatchArgument, as_json: JsonOption = False) -> None:
    """Show a batch."""
    with Session.of(ctx).client() as client:
        batch = client.batches.get(batch_id)
    _show(batch, as_json=as_json)


@batches_app.command()
def cancel(ctx: typer.Context, batch_id: BatchArgument, as_json: JsonOption = False) -> None:
    """Cancel a batch; what is answered already is kept in its files."""
    with Session.of(ctx).client() as client:
        batch = client.batches.cancel(batch_id)
    _show(batch, as_json=as_json)


@batches_app.command()
def follow(ctx: typer.Context, batch_id: BatchArgument, as_json: JsonOption = False) -> None:
    """Wait for a batch's end; exit status 1 unless it is completed without a failed line."""
    with Session.of(ctx).client() as client:
        batch = _follow(client, client.batches.get(batch_id))
    _show(batch, as_json=as_json)
    _end(batch)


def _upload(client: Client, file: Path) -> str:
    with transfer_bar(f"uploading {file.name}") as progress:
        return client.files.upload(file, "batch", progress=progress).id


def _follow(client: Client, batch: Batch) -> Batch:
    """Show a bar until the batch has ended, and return it as it is then."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with ProgressBar(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(batch.status, total=None)
        while not batch.has_ended:
            time.sleep(FOLLOW_SECONDS)
            batch = client.batches.get(batch.id)
            counts = batch.request_counts
            bar.update(
                task,
                description=batch.status,
                total=counts.total or None,
                completed=counts.completed + counts.failed,
            )
    return batch


def _show(batch: Batch, *, as_json: bool) -> None:
    if as_json:
        print_json(batch)
        return
    print_fields(
        [
            ("batch", batch.id),
            ("status", batch.status),
            ("endpoint", batch.endpoint),
            ("lines", _counted(batch)),
            ("tokens", f"{batch.usage.input_tokens} in, {batch.usage.output_tokens} out"),
            ("input", batch.input_file_id),
            ("output", batch.output_file_id),
            ("errors", batch.error_file_id),
            ("created", moment(batch.created_at)),
            ("expires", None if batch.expires_at is None else moment(batch.expires_at)),
        ]
    )
    for fault in () if batch.errors is None else batch.errors.data:
        say(f"  {'the file' if fault.line is None else f'line {fault.line}'}: {fault.message}", err=True)


def _counted(batch: Batch) -> str:
    counts = batch.request_counts
    return f"{counts.completed} answered, {counts.failed} failed, {counts.total} in all"


def _end(batch: Batch) -> None:
    if batch.status != "completed" or batch.request_counts.failed:
        raise typer.Exit(1)
