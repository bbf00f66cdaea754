"""A conversion's progress on a terminal: one line with a bar and the time left."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from headmix_adapters.base.gguf.conversion import OnProgress
from headmix_adapters.base.gguf.conversion_progress import ConversionProgress
from headmix_adapters.base.resolve import ResolvedBase, resolve_base
from headmix_adapters.printable import printable


class TimeLeft(ProgressColumn):
    """The time left at the pace so far; the stages are weighted so that this pace is roughly constant."""

    def render(self, task: Task) -> Text:
        """Return the text for a task, empty until its first stage is done."""
        if not task.completed or task.elapsed is None or not task.total:
            return Text()
        left = task.elapsed * (task.total - task.completed) / task.completed
        return Text(f"about {left:.0f} s left", style="progress.remaining")


@contextmanager
def conversion_bar(console: Console) -> Iterator[OnProgress]:
    """Yield the callback that draws a conversion's progress, from its first report on and only on a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(20), TaskProgressColumn(), TimeElapsedColumn(), TimeLeft())
    bar = Progress(*columns, console=console, transient=True)
    task = bar.add_task("", total=1.0, start=False)

    def draw(progress: ConversionProgress) -> None:
        if console.is_terminal:
            bar.start()
            bar.start_task(task)
            words = f"Converting {printable(progress.file)}, once: {progress.stage}"
            bar.update(task, completed=progress.done, description=escape(words))

    try:
        yield draw
    finally:
        if bar.live.is_started:
            bar.stop()


def resolve_visibly(name: str) -> ResolvedBase:
    """Resolve a base as `resolve_base` does, with a progress bar on standard error if that is a terminal."""
    with conversion_bar(Console(stderr=True)) as on_progress:
        return resolve_base(name, on_progress=on_progress)
