"""What a job's tenant sees of its training: a trainer's events become the job's progress and its recorded events.

Those of a resumed training begin again at step 1 and are recorded once: `recorded` says what the job has already.
"""

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import msgspec

from headmix_adapters.train.history.events import Checkpoint, Event, Resumed, Scored, Started, Step
from headmix_server.fine_tuning.progress import Progress
from headmix_server.jobs.job import JobEvent, NewEvent

MOST_STEPS_RECORDED = 1000
SCORES = "scores"
"""The key of a scored event's data, which tells it from a step's."""


class _StepData(msgspec.Struct, frozen=True):
    step: int = 0
    scores: dict[str, float] | None = None


_DATA = msgspec.json.Decoder(_StepData)


@dataclass(frozen=True, slots=True)
class Recorded:
    """The last step, and the last step with scores, that are among a job's events."""

    step: int = 0
    scored: int = 0


def recorded(newest: Iterable[JobEvent]) -> Recorded:
    """Return what is recorded already, from a job's newest events."""
    steps = [_DATA.decode(event.data) for event in newest if event.type == "metrics" and event.data]
    return Recorded(
        max((one.step for one in steps if one.scores is None), default=0),
        max((one.step for one in steps if one.scores is not None), default=0),
    )


@dataclass(slots=True)
class Follower:
    """Follows one attempt. `clock` is any steady one.

    `news` are the events to be recorded, `checkpoint` the step of a new checkpoint, `last` a trainer's last event, and
    `started` its first.
    """

    before: Recorded
    clock: Callable[[], float] = time.monotonic
    progress: Progress = field(default_factory=Progress)
    news: list[NewEvent] = field(default_factory=list)
    checkpoint: int | None = None
    started: Started | None = None
    last: Event | None = None
    _first: tuple[int, float] | None = None
    _resumed: bool = False

    def take(self, events: Iterable[Event]) -> None:
        """Follow some more events."""
        for event in events:
            match event:
                case Started():
                    self._start(event)
                case Resumed(step=step):
                    self._first = None
                    self.news.append(NewEvent(f"Training goes on from step {step}."))
                case Step():
                    self._step(event)
                case Scored():
                    self._scored(event)
                case Checkpoint(step=step):
                    self.checkpoint = step
                case _:
                    self.last = event

    def take_news(self) -> list[NewEvent]:
        """Return the events to be recorded, and forget them."""
        news, self.news = self.news, []
        return news

    def _start(self, event: Started) -> None:
        self.started = event
        self.progress = msgspec.structs.replace(self.progress, steps=event.steps, epochs=event.epochs)
        if self.before.step == 0:
            message = f"Training begins: {event.steps} steps in {event.epochs} epochs, {event.train_examples} examples."
            self.news.append(NewEvent(message))

    def _step(self, event: Step) -> None:
        steps = self.progress.steps or event.step
        self.progress = msgspec.structs.replace(
            self.progress,
            step=event.step,
            epoch=event.epoch,
            trained_tokens=event.tokens,
            train_loss=event.train_loss,
            seconds_left=self._seconds_left(event.step, steps),
        )
        every = math.ceil(steps / MOST_STEPS_RECORDED)
        if event.step > self.before.step and (event.step % every == 0 or event.step in (1, steps)):
            data: dict[str, object] = {
                "step": event.step,
                "train_loss": event.train_loss,
                "learning_rate": event.learning_rate,
            }
            self._metrics(f"Step {event.step}/{steps}: training loss={event.train_loss:.4g}", data)

    def _scored(self, event: Scored) -> None:
        self.progress = msgspec.structs.replace(self.progress, valid_loss=event.valid_loss)
        if event.step > self.before.scored:
            shown = ", ".join(f"{name}={value:.4g}" for name, value in event.scores.items())
            data: dict[str, object] = {"step": event.step, SCORES: event.scores}
            if event.valid_loss is not None:
                data["valid_loss"] = data["full_valid_loss"] = event.valid_loss
            self._metrics(f"Step {event.step}/{self.progress.steps or event.step}: held-out {shown}", data)

    def _metrics(self, message: str, data: dict[str, object]) -> None:
        self.news.append(NewEvent(message, type="metrics", data=msgspec.json.encode(data).decode()))

    def _seconds_left(self, step: int, steps: int) -> float | None:
        """Return how long the remaining steps take at the pace of those that this attempt has made."""
        now = self.clock()
        if self._first is None:
            self._first = (step, now)
        first, began = self._first
        return None if step == first else (now - began) / (step - first) * (steps - step)
