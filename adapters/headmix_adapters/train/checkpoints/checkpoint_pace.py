"""Checkpoints between those after each epoch: a run that is killed repeats little, and learns the same."""

import time
from collections.abc import Callable

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from headmix_adapters.train.terminal.interrupt import is_scored_after


class CheckpointPace(TrainerCallback):
    """Keeps a checkpoint at the first step that ends `seconds` after the last one. `clock` is any steady one."""

    def __init__(self, seconds: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._last = clock()

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> TrainerControl:
        """Count from here."""
        self._last = self._clock()
        return control

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> TrainerControl:
        """Save if it is time to; after an epoch's last step the scores come first, and its checkpoint anyway."""
        due = self._clock() - self._last >= self._seconds
        if due and state.global_step < state.max_steps and not is_scored_after(args, state):
            control.should_save = True
        return control

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> TrainerControl:
        """Count from here again."""
        self._last = self._clock()
        return control
