"""Owns `headmix run-batch`."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import httpx2
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as ProgressBar

from headmix.cli.output import say
from headmix.cli.session import Session, report
from headmix.config import DEFAULT_TIMEOUT, Settings
from headmix.errors import APIConnectionError, HeadmixError
from headmix.local_server import find_local_key
from headmix.run_batch.lines import check_lines, read_lines
from headmix.run_batch.output import Output
from headmix.run_batch.private_server import private_server
from headmix.run_batch.send import Sending

INTERRUPTED = 130
RETRIES = 8


def _adapter(text: str) -> tuple[str, Path]:
    name, equals, file = text.partition("=")
    path = Path(file if equals else name)
    return (name if equals else path.stem), path


def run_batch(
    ctx: typer.Context,
    source: Annotated[Path, typer.Option("--input", "-i", help="JSON Lines: custom_id, method, url, body.")],
    target: Annotated[Path, typer.Option("--output", "-o", help="Answers, one per line. An existing file goes on.")],
    url: Annotated[str | None, typer.Option(help="The server; default: that of the other commands.")] = None,
    base: Annotated[
        str | None, typer.Option(help="Start a server with this base for the run, instead of asking a running one.")
    ] = None,
    adapter: Annotated[
        list[str] | None, typer.Option(help="With --base: an adapter as NAME=FILE. May be repeated.")
    ] = None,
    serve: Annotated[
        list[str] | None, typer.Option(help="With --base: a further flag of `headmix serve`, as --serve=--threads=4.")
    ] = None,
    window: Annotated[int, typer.Option(min=1, max=1024, help="Requests that are open at once.")] = 64,
) -> None:
    """Answer a file of requests into another, with a running server or one started for it.

    Interrupt it and start it again: it goes on with what has no answer. Exit status 1 if a line failed.
    """
    try:
        checked = check_lines(source)
        if checked.faults:
            for fault in checked.faults:
                say(f"error: {source}: {fault}", err=True)
            raise typer.Exit(1)
        with Output(target) as output, _server(Session.of(ctx), url, base, adapter or (), serve or ()) as settings:
            _run(settings, source, output, checked.total, window)
    except (HeadmixError, OSError, ValueError) as error:
        report(error)
        raise typer.Exit(1) from error
    say(f"{len(output.done) - output.failed} answered, {output.failed} failed: {target}", err=True)
    raise typer.Exit(1 if output.failed else 0)


@contextmanager
def _server(
    session: Session, url: str | None, base: str | None, adapters: Sequence[str], flags: Sequence[str]
) -> Iterator[Settings]:
    """Yield how to reach the server."""
    if base is None:
        if adapters or flags:
            raise typer.BadParameter("--adapter and --serve belong to --base")
        address = url or session.base_url
        found = None if session.api_key else find_local_key(address)
        key = session.api_key or (found.text if found else None)
        yield Settings.resolve(address, key, DEFAULT_TIMEOUT, RETRIES)
        return
    if url is not None:
        raise typer.BadParameter("give either --url or --base")
    with private_server(base, dict(map(_adapter, adapters)), flags) as address:
        yield Settings.resolve(address, None, DEFAULT_TIMEOUT, RETRIES)


def _run(settings: Settings, source: Path, output: Output, total: int, window: int) -> None:
    left = (line for line in read_lines(source) if line.custom_id not in output.done)
    with _bar(total, len(output.done)) as bar:
        task = bar.task_ids[0]
        sending = Sending(settings, output, window, lambda: bar.advance(task))
        try:
            asyncio.run(sending.run(left))
        except KeyboardInterrupt:
            output.sync()
            say(f"interrupted: {len(output.done)} of {total} have an answer; the same command goes on", err=True)
            raise typer.Exit(INTERRUPTED) from None
        except httpx2.TransportError as error:
            raise APIConnectionError(f"the server cannot be reached: {error}") from error


def _bar(total: int, done: int) -> ProgressBar:
    """Return a bar on stderr, with the time that is left; without a terminal nothing is shown."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    bar = ProgressBar(*columns, console=console, transient=True, disable=not console.is_terminal)
    bar.add_task("answering", total=total, completed=done)
    return bar
