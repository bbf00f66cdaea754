"""transformers.Trainer with this project's batches and scores, and a Ctrl-C that leaves a checkpoint.

What is optimised, saved and loaded follows from the model it is given: an `AdaptedModel`'s only trainable parameters,
and its only state, are the adapter's.
"""

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import (
    EarlyStoppingCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from headmix_adapters.inject.adapted import AdaptedModel
from headmix_adapters.train.batches import ExampleDataset, LengthBatches, collate
from headmix_adapters.train.errors import Interrupted
from headmix_adapters.train.evaluate import DecidingScore, Scores
from headmix_adapters.train.examples import Example
from headmix_adapters.train.recipe import TrainingTable


class AdapterTrainer(Trainer):
    """A Trainer that batches by length in a reproducible order and scores the held-out file after each epoch."""

    def __init__(
        self,
        model: AdaptedModel,
        arguments: TrainingArguments,
        examples: Sequence[Example],
        scorer: Callable[[], Scores],
        callbacks: list[TrainerCallback] | None = None,
    ) -> None:
        super().__init__(
            model=model,
            args=arguments,
            train_dataset=ExampleDataset(examples),
            eval_dataset=ExampleDataset([]),
            data_collator=collate,
            callbacks=callbacks,
        )
        self._dataset = ExampleDataset(examples)
        self._lengths = [len(example.input_ids) for example in examples]
        self._scorer = scorer

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Return the epoch's batches; Trainer sets the epoch and skips what a resumed run has done."""
        batches = LengthBatches(self._lengths, self.args.train_batch_size, self.args.seed)
        loader: DataLoader[Any] = DataLoader(self._dataset, batch_sampler=batches, collate_fn=self.data_collator)
        prepared: DataLoader[Any] = self.accelerator.prepare(loader)
        return prepared

    def evaluate(
        self, eval_dataset: object = None, ignore_keys: object = None, metric_key_prefix: str = "eval"
    ) -> Scores:
        """Log and return the held-out scores under `eval_` names."""
        scores = {f"{metric_key_prefix}_{name}": value for name, value in self._scorer().items()}
        self.log(scores)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, scores)
        return scores


class StopAtStep(TrainerCallback):
    """Ends training with a checkpoint at the next step boundary once `requested` is set."""

    def __init__(self) -> None:
        self.requested = False

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> TrainerControl:
        """Save and stop here; the last step of all is left to finish by itself."""
        if self.requested and state.global_step < state.max_steps:
            control.should_training_stop = True
            control.should_save = True
        return control

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> TrainerControl:
        """Leave out the scoring and second checkpoint that the end of an epoch brings."""
        if self.requested and state.global_step < state.max_steps:
            control.should_evaluate = False
            control.should_save = False
        return control


@contextmanager
def stop_on_interrupt(stop: StopAtStep) -> Iterator[None]:
    """Turn the first Ctrl-C into a request to stop; the second one interrupts at once.

    Signals reach the main thread only; elsewhere this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def request(_: int, __: FrameType | None) -> None:
        stop.requested = True
        signal.signal(signal.SIGINT, previous)

    previous = signal.signal(signal.SIGINT, request)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


def training_arguments(
    table: TrainingTable, folder: Path, deciding: DecidingScore, *, quiet: bool
) -> TrainingArguments:
    """Return Trainer's arguments for a recipe's `[training]`.

    Checkpoints go to `folder`; the newest is kept, and with early stopping the best, which training ends with.
    """
    stops_early = table.early_stopping_patience is not None
    return TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=table.batch_size,
        gradient_accumulation_steps=table.gradient_accumulation,
        num_train_epochs=table.epochs,
        max_steps=table.max_steps or -1,
        learning_rate=table.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=table.warmup_ratio,
        weight_decay=table.weight_decay,
        optim="adamw_torch",
        seed=table.seed,
        eval_strategy="epoch",
        save_strategy="epoch",
        # With a limit of one, Trainer's end deletes all but the best, an interrupted run's newest among them.
        save_total_limit=2 if stops_early else 1,
        load_best_model_at_end=stops_early,
        metric_for_best_model=f"eval_{deciding.name}",
        greater_is_better=deciding.greater_is_better,
        restore_callback_states_from_checkpoint=True,
        logging_steps=20,
        report_to="none",
        disable_tqdm=quiet,
        use_cpu=not torch.cuda.is_available(),
        dataloader_pin_memory=False,
        remove_unused_columns=False,
    )


def fit(
    model: AdaptedModel,
    examples: Sequence[Example],
    scorer: Callable[[], Scores],
    arguments: TrainingArguments,
    checkpoint: Path | None = None,
    patience: int | None = None,
) -> tuple[int, dict[str, Tensor]]:
    """Train, from a checkpoint where one is given; return the optimizer steps done and the adapter's tensors.

    With `patience`, training ends after so many epochs without a better score; the best epoch's tensors are returned.

    Raises:
        Interrupted: Ctrl-C; the checkpoint of the last step lies in the arguments' output folder.
    """
    stop = StopAtStep()
    callbacks: list[TrainerCallback] = [stop]
    if patience is not None:
        callbacks.append(EarlyStoppingCallback(patience))
    trainer = AdapterTrainer(model, arguments, examples, scorer, callbacks)
    with stop_on_interrupt(stop):
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    if stop.requested and trainer.state.global_step < trainer.state.max_steps:
        raise Interrupted(f"stopped after step {trainer.state.global_step} of {trainer.state.max_steps}")
    return trainer.state.global_step, model.adapter.tensors()
