"""transformers.Trainer with this project's batches, scores and reports, and a Ctrl-C that leaves a checkpoint.

What is optimised, saved and loaded follows from the model: the only trainable parameters of an `AdaptedModel`, and its
only state, are the adapter's.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import EarlyStoppingCallback, PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from headmix_adapters.inject.adapted import AdaptedModel
from headmix_adapters.train.checkpoints.checkpoint_pace import CheckpointPace
from headmix_adapters.train.checkpoints.ended import SCORE_PREFIX, fit_at, has_ended
from headmix_adapters.train.data.batches import ExampleDataset, LengthBatches, collate
from headmix_adapters.train.data.examples import Example
from headmix_adapters.train.errors import Interrupted, TrainError
from headmix_adapters.train.fitted import Fit
from headmix_adapters.train.history.events import Scores
from headmix_adapters.train.recipe.recipe import TrainingTable
from headmix_adapters.train.scoring.evaluate import DecidingScore
from headmix_adapters.train.terminal.interrupt import StopAtStep, stop_on_interrupt
from headmix_adapters.train.terminal.progress import Progress
from headmix_adapters.train.terminal.step_report import StepReport

_NO_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")

Collator: TypeAlias = Callable[[Sequence[Example]], dict[str, Tensor]]


class AdapterTrainer(Trainer):
    """A Trainer that batches by length in a reproducible order and scores the held-out file when it is due."""

    def __init__(
        self,
        model: AdaptedModel,
        arguments: TrainingArguments,
        examples: Sequence[Example],
        scorer: Callable[[], Scores],
        report: StepReport,
        callbacks: list[TrainerCallback] | None = None,
        collator: Collator = collate,
    ) -> None:
        super().__init__(
            model=model,
            args=arguments,
            train_dataset=ExampleDataset(examples),
            eval_dataset=ExampleDataset([]),
            data_collator=collator,
            callbacks=callbacks,
        )
        self._dataset = ExampleDataset(examples)
        self._lengths = [len(example.input_ids) for example in examples]
        self._scorer = scorer
        self._report = report
        # This callback prints each log entry as a raw dict.
        self.remove_callback(PrinterCallback)
        self.add_callback(report)

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Return the epoch's batches; Trainer sets the epoch and skips what a resumed run has already done."""
        batches = LengthBatches(self._lengths, self.args.train_batch_size, self.args.seed)
        loader: DataLoader[Any] = DataLoader(self._dataset, batch_sampler=batches, collate_fn=self.data_collator)
        prepared: DataLoader[Any] = self.accelerator.prepare(loader)
        return prepared

    def training_step(
        self, model: nn.Module, inputs: dict[str, Tensor | Any], num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """Compute a batch's gradients and report its contribution to the step's loss."""
        tokens = int(inputs["attention_mask"].sum())
        loss = super().training_step(model, inputs, num_items_in_batch)
        self._report.add(loss, tokens)
        return loss

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Write the adapter; a checkpoint begins with it, and the run's history must not be older."""
        self._report.sync()
        super().save_model(output_dir, _internal_call)

    def evaluate(
        self, eval_dataset: object = None, ignore_keys: object = None, metric_key_prefix: str = "eval"
    ) -> Scores:
        """Log and return the held-out scores under `eval_` names."""
        scores = {f"{metric_key_prefix}_{name}": value for name, value in self._scorer().items()}
        self._report.scored(self.state, {name.removeprefix(SCORE_PREFIX): value for name, value in scores.items()})
        self.log(scores)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, scores)
        return scores


def training_arguments(table: TrainingTable, folder: Path, deciding: DecidingScore, examples: int) -> TrainingArguments:
    """Return Trainer's arguments for a recipe's `[training]` and a number of examples.

    Checkpoints go to `folder`; the newest is kept, and with early stopping also the best, which is the final result.
    """
    stops_early = table.early_stopping_patience is not None
    when = "epoch" if table.score_every is None else "steps"
    return TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=table.batch_size,
        gradient_accumulation_steps=table.gradient_accumulation,
        num_train_epochs=table.epochs,
        max_steps=_limit(table, examples),
        learning_rate=table.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=table.warmup_ratio,
        weight_decay=table.weight_decay,
        optim="adamw_torch",
        seed=table.seed,
        eval_strategy=when,
        save_strategy=when,
        eval_steps=table.score_every,
        save_steps=table.score_every or 500,
        # If Trainer knows a best checkpoint and the limit is one, it deletes all others at the end, including an
        # interrupted run's newest: so without early stopping there is no best, and with it the limit is two.
        save_total_limit=2 if stops_early else 1,
        load_best_model_at_end=stops_early,
        metric_for_best_model=f"{SCORE_PREFIX}{deciding.name}" if stops_early else None,
        greater_is_better=deciding.greater_is_better if stops_early else None,
        restore_callback_states_from_checkpoint=True,
        logging_steps=20,
        report_to="none",
        disable_tqdm=True,
        use_cpu=not torch.cuda.is_available(),
        dataloader_pin_memory=False,
        remove_unused_columns=False,
    )


def fit(
    model: AdaptedModel,
    examples: Sequence[Example],
    scorer: Callable[[], Scores],
    arguments: TrainingArguments,
    progress: Progress,
    checkpoint: Path | None = None,
    patience: int | None = None,
    report: StepReport | None = None,
    checkpoint_seconds: float | None = None,
    collator: Collator = collate,
) -> Fit:
    """Train, from a checkpoint if one is given; `report` records the run, and shows it with `progress`.

    With `checkpoint_seconds`, checkpoints are kept this often between those after each scoring.

    With `patience`, training ends after that many scorings without a better one, with the tensors of the best.

    Raises:
        Interrupted: Ctrl-C; the last step's checkpoint is in the arguments' output folder.
        DivergedError: the loss or a weight is no longer a number, or the loss is far above its start.
        TrainError: memory or disk space ran out.
    """
    stop = StopAtStep()
    callbacks: list[TrainerCallback] = [stop]
    if patience is not None:
        callbacks.append(EarlyStoppingCallback(patience))
    if checkpoint_seconds is not None:
        callbacks.append(CheckpointPace(checkpoint_seconds))
    trainer = AdapterTrainer(model, arguments, examples, scorer, report or StepReport(progress), callbacks, collator)
    with stop_on_interrupt(stop, progress.stopping), _explained():
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    state = trainer.state
    # Ctrl-C may have come when this step was the last anyway: a resumed run would train on.
    if stop.requested and not has_ended(state):
        raise Interrupted(f"stopped after step {state.global_step} of {state.max_steps}")
    return fit_at(state, model.adapter.tensors())


def _limit(table: TrainingTable, examples: int) -> int:
    """Return the step after which training ends before its epochs do, or -1: a Trainer would go on beyond them."""
    by_epoch = math.ceil(math.ceil(examples / table.batch_size) / table.gradient_accumulation)
    if table.max_steps is None or table.max_steps >= by_epoch * table.epochs:
        return -1
    return table.max_steps


@contextmanager
def _explained() -> Iterator[None]:
    """Turn torch's and safetensors' errors about memory or disk into readable messages."""
    try:
        yield
    except SafetensorError as error:
        raise TrainError(f"a checkpoint cannot be written: {error}") from error
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not any(words in str(error) for words in _NO_MEMORY):
            raise
        raise TrainError("out of memory: train with a smaller batch_size or max_length") from error
