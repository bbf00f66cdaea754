"""What a finished training leaves: the artifact and the files that show how it went, put among the stored files."""

from collections.abc import Callable, Iterator
from pathlib import Path

from headmix_adapters.train.history.events import Done, Scored, Started
from headmix_adapters.train.history.history import History, history_path, read_history
from headmix_adapters.train.terminal.advice import caution
from headmix_server.fine_tuning.result import ResultFile, StoredBytes, Trained
from headmix_server.fine_tuning.step_metrics import FILENAME, step_metrics_csv

Put = Callable[[Path], str]
"""Stores a file's bytes and returns their digest."""
_PICTURES = ".svg"


def store_results(artifact: Path, put: Put, done: Done, started: Started | None, tokens: int) -> Trained:
    """Store an artifact and what lies next to it by digest; the server makes it the tenant's.

    Raises:
        HeadmixServerError: the store cannot be reached, or is full.
        OSError: a file cannot be read or written.
    """
    folder = artifact.parent
    history = history_path(artifact)
    found = [_picture(path, artifact, put) for path in sorted(folder.glob(f"{artifact.stem}*{_PICTURES}"))]
    if history.exists():
        table = folder / FILENAME
        table.write_text(step_metrics_csv(_lines(read_history(history))), encoding="utf-8")
        found.insert(0, _stored(table, FILENAME, put))
    return Trained(
        artifact=StoredBytes(digest=put(artifact), size_bytes=artifact.stat().st_size),
        files=tuple(found),
        trained_tokens=tokens,
        scores=_scores(done, started),
        below_base=done.below_base,
        warnings=tuple(_warnings(done, started)),
    )


def _scores(done: Done, started: Started | None) -> dict[str, dict[str, float]]:
    scores = {"adapter": done.scores}
    if started is not None and started.base is not None:
        scores["base"] = started.base
    if started is not None and started.linear_classifier is not None:
        scores["linear classifier"] = started.linear_classifier
    return scores


def _warnings(done: Done, started: Started | None) -> Iterator[str]:
    if done.below_base:
        yield "The adapter scores below its base on the held-out data."
    for remark in () if started is None else caution(done.scores, started.valid_examples):
        yield f"{remark[0].upper()}{remark[1:]}."


def _lines(history: History) -> list[dict[str, object]]:
    """Return a line for each step, with the held-out scores after those that have some."""
    scored = {event.step: event for event in history.scored}
    return [
        {"step": event.step, "train_loss": event.train_loss, **_held_out(scored.get(event.step))}
        for event in history.steps
    ]


def _held_out(event: Scored | None) -> dict[str, object]:
    return {} if event is None else {"valid_loss": event.valid_loss, "full_valid_loss": event.valid_loss}


def _picture(path: Path, artifact: Path, put: Put) -> ResultFile:
    return _stored(path, path.name.removeprefix(artifact.stem).lstrip(".-"), put)


def _stored(path: Path, name: str, put: Put) -> ResultFile:
    return ResultFile(filename=name, digest=put(path), size_bytes=path.stat().st_size)
