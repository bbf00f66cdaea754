"""A conversion's progress for a person at a terminal: one line with a bar and the time that is left."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from headmix_adapters.base.conversion import OnProgress
from headmix_adapters.base.conversion_progress import ConversionProgress
from headmix_adapters.base.resolve import ResolvedBase, resolve_base
from headmix_adapters.printable import printable


@contextmanager
def conversion_bar(console: Console) -> Iterator[OnProgress]:
    """Give what draws a conversion's progress; nothing is drawn before there is some, or where nobody looks."""
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=console, transient=True)
    task = bar.add_task("", total=1.0)

    def draw(progress: ConversionProgress) -> None:
        if console.is_terminal:
            bar.start()
            words = f"Converting {printable(progress.file)}, once: {progress.stage}"
            bar.update(task, completed=progress.done, description=escape(words))

    try:
        yield draw
    finally:
        if bar.live.is_started:
            bar.stop()


def resolve_visibly(name: str) -> ResolvedBase:
    """Resolve a base as `resolve_base` does, with a bar on standard error where that is a terminal."""
    with conversion_bar(Console(stderr=True)) as on_progress:
        return resolve_base(name, on_progress=on_progress)
