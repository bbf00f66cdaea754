"""Owns a transfer's progress bar, on stderr, so that it does not mix with piped output."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, TextColumn, TransferSpeedColumn
from rich.progress import Progress as ProgressBar

from headmix.cli.printable import printable
from headmix.http.upload import Progress


@contextmanager
def transfer_bar(what: str) -> Iterator[Progress]:
    """Show a bar during the block if stderr is a terminal; yields the callback that advances it."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    console = Console(stderr=True)
    with ProgressBar(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(escape(printable(what)), total=None)

        def advance(done: int, total: int | None) -> None:
            bar.update(task, completed=done, total=total)

        yield advance
