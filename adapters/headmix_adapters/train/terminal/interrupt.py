"""Ctrl-C (or SIGTERM) during training: the current step ends, a checkpoint is written, and the run stops."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import SaveStrategy

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopAtStep(TrainerCallback):
    """Ends training with a checkpoint at the next step boundary once `requested` is set."""

    def __init__(self) -> None:
        self.requested = False

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> TrainerControl:
        """Save and stop here, unless this is the last step, after which training ends by itself.

        After an epoch's last step comes the scoring of the held-out data, and then its checkpoint: a resumed run goes
        on behind both.
        """
        if self.requested and state.global_step < state.max_steps:
            control.should_training_stop = True
            control.should_save = not is_scored_after(args, state)
        return control

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> TrainerControl:
        """Skip the scoring of an epoch that has not ended, unless training has: the last step is always scored."""
        if self.requested and state.global_step < state.max_steps and not is_scored_after(args, state):
            control.should_evaluate = False
            control.should_save = False
        return control


def is_scored_after(args: TrainingArguments, state: TrainerState) -> bool:
    """Return whether a step is the last of an epoch after which the held-out data is scored."""
    return args.save_strategy == SaveStrategy.EPOCH and float(state.epoch or 0.0).is_integer()


@contextmanager
def stop_on_interrupt(stop: StopAtStep, on_request: Callable[[], None]) -> Iterator[None]:
    """Turn the first signal into a request to stop, and call `on_request`; a second signal interrupts at once.

    Signals only reach the main thread; in other threads this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def request(_: int, __: FrameType | None) -> None:
        stop.requested = True
        restore()
        on_request()

    def restore() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    previous = {number: signal.signal(number, request) for number in SIGNALS}
    try:
        yield
    finally:
        restore()
