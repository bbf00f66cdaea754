"""From the Trainer's callbacks to the progress a person sees: each step's loss, each epoch's held-out scores."""

import torch
from torch import Tensor
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from headmix_adapters.train.errors import TrainError
from headmix_adapters.train.evaluate import Scores
from headmix_adapters.train.progress import Progress


class StepReport(TrainerCallback):
    """Adds up what the batches of a step say, and passes it on once the step is done.

    Losses stay on the device until a step is shown: reading one waits for the device.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._step: Tensor | None = None
        self._epoch: Tensor | None = None
        self._steps = 0

    def add(self, loss: Tensor) -> None:
        """Add a batch's share of the step's loss."""
        self._step = loss.detach() if self._step is None else self._step + loss.detach()

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> TrainerControl:
        """Say how far there is to go; a resumed run begins further on."""
        self._progress.begin(state.global_step, state.max_steps, state.num_train_epochs)
        return control

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> TrainerControl:
        """Show the step, where it is time to.

        Raises:
            TrainError: the loss is not a number.
        """
        if self._step is not None:
            self._epoch = self._step if self._epoch is None else self._epoch + self._step
            self._steps += 1
            if self._progress.wants(state.global_step):
                self._progress.step(state.global_step, state.epoch or 0.0, _number(self._step, state))
            self._step = None
        return control

    def scored(self, state: TrainerState, scores: Scores) -> None:
        """Show an epoch's scores with the mean loss of its steps."""
        loss = None if self._epoch is None else _number(self._epoch / self._steps, state)
        self._epoch, self._steps = None, 0
        self._progress.epoch(round(state.epoch or 0.0), loss, scores)


def _number(loss: Tensor, state: TrainerState) -> float:
    if not bool(torch.isfinite(loss)):
        raise TrainError(f"the loss is not a number after step {state.global_step}: train with a lower learning_rate")
    return float(loss)
