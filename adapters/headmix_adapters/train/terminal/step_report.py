"""From the Trainer's callbacks to the run's records and to the display: each step's loss, the held-out scores."""

import math
from pathlib import Path

from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, IntervalStrategy

from headmix_adapters.train.errors import DivergedError
from headmix_adapters.train.history.divergence import DivergenceWatch
from headmix_adapters.train.history.events import Scores, Started, Step
from headmix_adapters.train.history.history import History
from headmix_adapters.train.history.recorder import Recorder
from headmix_adapters.train.scoring.evaluate import SQUARES
from headmix_adapters.train.terminal.progress import Progress


class StepReport(TrainerCallback):
    """Adds up a step's batches, and records the step once it is done.

    All it remembers of earlier steps comes from the run's history, so a resumed run reports what the interrupted one
    would have reported. Without a recorder, steps are shown and watched, and not recorded.
    """

    def __init__(self, progress: Progress, recorder: Recorder | None = None, about: Started | None = None) -> None:
        self._progress = progress
        self._recorder = recorder
        self._about = about
        history = History() if recorder is None else recorder.history
        self._seen = [step.train_loss for step in history.steps]
        self._loss: Tensor | None = None
        self._tokens = history.tokens
        self._rate = 0.0
        self._by_epoch = True
        self._unseen: list[float] = []
        self._unscored = history.losses_since_scored()
        self._watch = DivergenceWatch(0)

    def add(self, loss: Tensor, tokens: int) -> None:
        """Add a batch: its share of the step's loss, and how many tokens it has."""
        self._loss = loss.detach() if self._loss is None else self._loss + loss.detach()
        self._tokens += tokens

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> TrainerControl:
        """Report the total number of steps; a resumed run does not begin at 0."""
        squares = self._about is not None and self._about.score_name == SQUARES
        self._watch = DivergenceWatch(state.max_steps, self._seen, squares=squares)
        if self._recorder is not None and self._about is not None:
            self._recorder.started(self._about, state.max_steps, state.num_train_epochs)
        self._by_epoch = args.eval_strategy == IntervalStrategy.EPOCH
        self._progress.begin(state.global_step, state.max_steps, state.num_train_epochs)
        return control

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **more: object
    ) -> TrainerControl:
        """Remember the step's learning rate: at its end the scheduler has moved on."""
        if isinstance(scheduler := more.get("lr_scheduler"), LRScheduler):
            self._rate = float(scheduler.get_last_lr()[0])
        return control

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> TrainerControl:
        """Record the step, and show it if it is time to.

        Raises:
            DivergedError: the loss is not a number, or far above its start.
        """
        if self._loss is None:
            return control
        loss, self._loss = float(self._loss), None
        step, epoch = state.global_step, state.epoch or 0.0
        self._watch.check(step, loss)
        self._unscored.append(loss)
        self._unseen.append(loss)
        if self._recorder is not None:
            self._recorder.step(
                Step(step=step, epoch=epoch, train_loss=loss, learning_rate=self._rate, tokens=self._tokens)
            )
        if self._progress.wants(step):
            self._progress.step(step, epoch, _mean(self._unseen))
            self._unseen.clear()
        return control

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> TrainerControl:
        """Report the checkpoint."""
        if self._recorder is not None:
            folder = Path(str(args.output_dir)) / f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}"
            self._recorder.checkpoint(state.global_step, folder)
        return control

    def sync(self) -> None:
        """Make the history survive a power failure."""
        if self._recorder is not None:
            self._recorder.sync()

    def scored(self, state: TrainerState, scores: Scores) -> None:
        """Record and show held-out scores with the mean loss of the steps since the last ones.

        Raises:
            DivergedError: a score is not a number.
        """
        if not all(map(math.isfinite, scores.values())):
            step = state.global_step
            raise DivergedError(
                step, f"the held-out scores are not finite after step {step}: train with a lower learning_rate"
            )
        loss = _mean(self._unscored) if self._unscored else None
        self._unscored.clear()
        epoch = state.epoch or 0.0
        if self._recorder is not None and self._about is not None:
            self._recorder.scored(state.global_step, epoch, loss, scores, self._about.score_name)
        if self._by_epoch:
            self._progress.epoch(math.ceil(epoch - 1e-9), loss, scores)
        else:
            self._progress.scored(state.global_step, loss, scores)


def _mean(losses: list[float]) -> float:
    return math.fsum(losses) / len(losses)
