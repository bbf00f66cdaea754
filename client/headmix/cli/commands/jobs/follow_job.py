"""Owns how a job is followed: its events as lines, its progress as a bar, both on stderr.

Where stderr is no terminal, the progress is a line every ten seconds.
"""

import time

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from headmix.cli.output import say
from headmix.cli.printable import printable
from headmix.client import Client
from headmix.types.jobs.fine_tuning import FineTuningJob, JobProgress

SECONDS = 1.0
LINE_SECONDS = 10.0
_MOST_SECONDS_SHOWN = 359_999


def follow_job(client: Client, job: FineTuningJob, *, seconds: float = SECONDS) -> FineTuningJob:
    """Show what happens in a job until it has ended, and return it as it is then."""
    seen: set[str] = set()
    line = _ProgressLine()
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[figures]}"))
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=None, figures="")
        while True:
            job = client.fine_tuning.get(job.id)
            _print_news(client, job, seen)
            if console.is_terminal:
                _show(bar, task, job)
            else:
                line.show(job)
            if job.has_ended:
                return job
            time.sleep(seconds)


class _ProgressLine:
    """Prints the progress now and then, if it has changed: a log is read later, and step by step it would be long."""

    def __init__(self) -> None:
        self._printed, self._printed_at = "", -LINE_SECONDS

    def show(self, job: FineTuningJob) -> None:
        """Print a job's figures, unless a line was printed within the last seconds."""
        figures, now = figures_of(job.headmix.progress), time.monotonic()
        if figures != self._printed and now >= self._printed_at + LINE_SECONDS:
            say(figures, err=True)
            self._printed, self._printed_at = figures, now


def _print_news(client: Client, job: FineTuningJob, seen: set[str]) -> None:
    """Print the messages that are new, oldest first; the figures of steps are the bar's."""
    for event in reversed(client.fine_tuning.latest_events(job.id)):
        if event.id not in seen and event.type == "message":
            say(f"{'' if event.level == 'info' else f'{event.level}: '}{event.message}", err=True)
        seen.add(event.id)


def _show(bar: Progress, task: TaskID, job: FineTuningJob) -> None:
    progress = job.headmix.progress
    bar.update(
        task,
        description=printable(f"{job.headmix.name or job.id} {job.status}"),
        completed=progress.step or 0,
        total=progress.steps,
        figures=figures_of(progress),
    )


def figures_of(progress: JobProgress) -> str:
    """Return step, losses and remaining time as one line."""
    parts = [] if progress.step is None or progress.steps is None else [f"step {progress.step}/{progress.steps}"]
    if progress.train_loss is not None:
        parts.append(f"loss {progress.train_loss:.3f}")
    if progress.valid_loss is not None:
        parts.append(f"held out {progress.valid_loss:.3f}")
    if progress.seconds_left is not None:
        parts.append(f"{duration(progress.seconds_left)} left")
    return "  ".join(parts)


def duration(seconds: float) -> str:
    """Return a time as minutes and seconds, or as hours and minutes."""
    whole = round(min(max(seconds, 0), _MOST_SECONDS_SHOWN))
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes}:{whole % 60:02}"
