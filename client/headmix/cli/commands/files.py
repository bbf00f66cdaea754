"""Owns `headmix files`: what jobs read, and what they write."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from headmix.cli.output import JsonOption, moment, print_fields, print_json, print_table, say, size
from headmix.cli.progress import transfer_bar
from headmix.cli.session import Session
from headmix.types.jobs.file import DeletedFile, File

files_app = typer.Typer(no_args_is_help=True, help="Upload data for jobs, and read what jobs wrote.")

FileId = Annotated[str, typer.Argument(metavar="FILE_ID", help="The file's id, as `headmix files list` shows it.")]


@files_app.command()
def upload(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, readable=True, help="The file.")],
    purpose: Annotated[str, typer.Option(help="`fine-tune` or `batch`.")] = "fine-tune",
    name: Annotated[str | None, typer.Option(help="The name shown in lists. Default: the file's own.")] = None,
    expires_after: Annotated[
        int | None, typer.Option(min=1, metavar="SECONDS", help="Delete it after 3600 to 2592000 seconds.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Upload a file and print its id."""
    with Session.of(ctx).client() as client, transfer_bar(f"uploading {file.name}") as progress:
        made = client.files.upload(file, purpose, filename=name, expires_after=expires_after, progress=progress)
    if as_json:
        print_json(made)
    else:
        say(made.id)


@files_app.command(name="list")
def list_files(
    ctx: typer.Context,
    purpose: Annotated[str | None, typer.Option(help="Only files of this purpose.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List your files, newest first."""
    with Session.of(ctx).client() as client:
        found = client.files.list(purpose=purpose)
    if as_json:
        print_json(found)
    else:
        print_files(found)


@files_app.command()
def show(ctx: typer.Context, file_id: FileId, as_json: JsonOption = False) -> None:
    """Show a file's name, size and purpose."""
    with Session.of(ctx).client() as client:
        found = client.files.get(file_id)
    if as_json:
        print_json(found)
        return
    print_fields(
        (
            ("id", found.id),
            ("name", found.filename),
            ("purpose", found.purpose),
            ("size", size(found.bytes)),
            ("created", moment(found.created_at)),
            ("expires", None if found.expires_at is None else moment(found.expires_at)),
        )
    )


@files_app.command()
def download(
    ctx: typer.Context,
    file_id: FileId,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", dir_okay=False, help="Default: FILE_ID in this folder.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
) -> None:
    """Save a file's bytes."""
    destination = output or Path(Path(file_id).name)
    if destination.exists() and not force:
        say(f"error: {destination} exists; --force replaces it, --output writes elsewhere", err=True)
        raise typer.Exit(2)
    with Session.of(ctx).client() as client, transfer_bar(f"downloading {file_id}") as progress:
        saved = client.files.save(file_id, destination, progress=progress)
    say(f"saved {saved}")


@files_app.command()
def delete(
    ctx: typer.Context,
    file_id: FileId,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask for confirmation.")] = False,
) -> None:
    """Delete a file."""
    if not yes:
        typer.confirm(f"Delete {file_id}?", abort=True)
    with Session.of(ctx).client() as client:
        gone = client.files.delete(file_id)
    say(f"deleted {gone.id}{_still(gone)}")


def _still(gone: DeletedFile) -> str:
    if not gone.held_by_jobs:
        return ""
    return f"; {gone.held_by_jobs} bytes count towards stored_bytes until the jobs that use them end"


def print_files(found: Sequence[File]) -> None:
    """Print a table of files."""
    columns = ("id", "name", "purpose", "size", "created", "expires")
    print_table(
        columns,
        (
            (
                file.id,
                file.filename,
                file.purpose,
                size(file.bytes),
                moment(file.created_at),
                None if file.expires_at is None else moment(file.expires_at),
            )
            for file in found
        ),
    )
