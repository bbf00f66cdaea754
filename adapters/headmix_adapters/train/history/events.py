"""The events of a training run: one JSON object per line, in a run's history and in the file of `--events`.

`event` says which one a line is. Numbers are finite; fields that a task does not define are null.

* `started`: `name`, `task`, `steps` (optimizer steps in all), `epochs`, `train_examples`, `valid_examples`,
  `score_name` (the score that decides, for example `accuracy`), `greater_is_better`; `base` and `linear_classifier`,
  the held-out scores of the base alone and of a linear classifier, or null.
* `step`, after each optimizer step: `step` (from 1), `epoch` (a fraction), `train_loss` (this step's), `learning_rate`,
  `tokens` (read since the run began, without padding).
* `scored`, after the held-out data was scored: `step`, `epoch`, `train_loss` (the mean since the last `scored`),
  `valid_loss`, `score`, `scores` (all of them, by name).

A run's history has these three. They depend only on the recipe, the data and the machine, so a resumed run writes the
same lines as an uninterrupted one. The file of `--events` also has:

* `resumed`: `step`, of the checkpoint that the run continues from.
* `checkpoint`: `step`; a run that is killed from now on continues here. `path` is its folder.
* the last line of a process: `done` (`artifact`, `digest`, `steps`, `scores`, and `below_base`: whether it scores below
  its base), or, with the `status` that the process exits with, `diverged` (`step`, `message`), `interrupted` or
  `failed` (`message`). A process that was killed writes none.

In the file of a sweep each line of one of its runs has the run's name, `run`. A run ends with `done` or `diverged`,
whose `status` is null since the process goes on; lines about the whole sweep have no `run`.
"""

from typing import TypeAlias

import msgspec

Scores = dict[str, float]


class _Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="event", tag=str.lower):
    """Immutable; its tag is the event's name. `run` is the run of a sweep that it belongs to."""

    run: str = ""


class Started(_Event, frozen=True):
    """Training begins."""

    name: str
    task: str
    steps: int
    epochs: int
    train_examples: int
    valid_examples: int
    score_name: str
    greater_is_better: bool
    base: Scores | None
    linear_classifier: Scores | None


class Step(_Event, frozen=True):
    """An optimizer step is done."""

    step: int
    epoch: float
    train_loss: float
    learning_rate: float
    tokens: int


class Scored(_Event, frozen=True):
    """The held-out data was scored."""

    step: int
    epoch: float
    train_loss: float | None
    valid_loss: float | None
    score: float | None
    scores: Scores


class Resumed(_Event, frozen=True):
    """An interrupted run continues."""

    step: int


class Checkpoint(_Event, frozen=True):
    """A checkpoint is complete."""

    step: int
    path: str


class Done(_Event, frozen=True):
    """The artifact is written."""

    artifact: str
    digest: str
    steps: int
    scores: Scores
    below_base: bool


class Diverged(_Event, frozen=True):
    """The loss is not finite, or far above its start; there is no artifact. A sweep goes on: no status."""

    status: int | None
    step: int
    message: str


class Interruption(_Event, frozen=True, tag="interrupted"):
    """A person stopped the run."""

    status: int
    message: str


class Failed(_Event, frozen=True):
    """The run cannot start or continue."""

    status: int
    message: str


Event: TypeAlias = Started | Step | Scored | Resumed | Checkpoint | Done | Diverged | Interruption | Failed

_EVENT = msgspec.json.Decoder(Event)


def encode_event(event: Event) -> bytes:
    """Return an event as one line."""
    return msgspec.json.encode(event) + b"\n"


def decode_events(data: bytes) -> list[Event]:
    """Return the events of a file's complete lines; a last line that was cut short is ignored.

    Raises:
        msgspec.DecodeError: a line is not an event.
    """
    whole = data[: data.rfind(b"\n") + 1]
    return [_EVENT.decode(line) for line in whole.splitlines()]
