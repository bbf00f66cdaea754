"""From the Trainer's callbacks to the progress display: each step's loss, each epoch's held-out scores."""

import math

import torch
from torch import Tensor
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from headmix_adapters.train.errors import TrainError
from headmix_adapters.train.scoring.evaluate import Scores
from headmix_adapters.train.terminal.progress import Progress


class StepReport(TrainerCallback):
    """Adds up the losses of a step's batches, and passes them on once the step is done.

    Losses stay on the device until a step is shown: reading one waits for the device.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._step: Tensor | None = None
        self._unseen = _Mean()
        self._epoch = _Mean()

    def add(self, loss: Tensor) -> None:
        """Add a batch's share of the step's loss."""
        self._step = loss.detach() if self._step is None else self._step + loss.detach()

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> TrainerControl:
        """Report the total number of steps; a resumed run does not begin at 0."""
        self._progress.begin(state.global_step, state.max_steps, state.num_train_epochs)
        return control

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> TrainerControl:
        """Show the step if it is time to.

        Raises:
            TrainError: the loss is not a number.
        """
        if self._step is not None:
            self._epoch.add(self._step)
            self._unseen.add(self._step)
            self._step = None
            if self._progress.wants(state.global_step):
                loss = self._unseen.take()
                self._progress.step(state.global_step, state.epoch or 0.0, _number(loss, state))
        return control

    def scored(self, state: TrainerState, scores: Scores) -> None:
        """Show an epoch's scores with the mean loss of its steps."""
        loss = self._epoch.take() if self._epoch.count else None
        number = math.ceil((state.epoch or 0.0) - 1e-9)
        self._progress.epoch(number, None if loss is None else _number(loss, state), scores)


class _Mean:
    """The mean of tensors on their device."""

    def __init__(self) -> None:
        self.count = 0
        self._sum = torch.zeros(())

    def add(self, value: Tensor) -> None:
        self._sum = value + (self._sum if self.count else 0)
        self.count += 1

    def take(self) -> Tensor:
        mean, self.count = self._sum / self.count, 0
        return mean


def _number(loss: Tensor, state: TrainerState) -> float:
    if not bool(torch.isfinite(loss)):
        raise TrainError(f"the loss is not finite after step {state.global_step}: train with a lower learning_rate")
    return float(loss)
