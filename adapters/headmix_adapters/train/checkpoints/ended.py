"""Whether training has ended at a Trainer's state, and the result of a run that was killed behind its last checkpoint.

A Trainer resumed at such a checkpoint would train on, so it is never resumed.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from transformers import EarlyStoppingCallback, TrainerState

from headmix_adapters.train.checkpoints.run_folder import checkpoint_path
from headmix_adapters.train.errors import DivergedError, TrainError
from headmix_adapters.train.fitted import Fit
from headmix_adapters.train.history.events import Scores

SCORE_PREFIX = "eval_"
"""What a Trainer's log puts before the names of held-out scores."""
_STATE_FILE = "trainer_state.json"
_TENSORS_FILE = "model.safetensors"


def has_ended(state: TrainerState) -> bool:
    """Return whether training has ended at a state that was saved: every step is done, or the patience is exhausted."""
    if state.global_step >= state.max_steps:
        return True
    # Typed as a list, it is a dict of what callbacks have stored by the time a state exists.
    stored = cast("Mapping[str, Any]", state.stateful_callbacks)
    stopping = stored.get(EarlyStoppingCallback.__name__)
    if stopping is None:
        return False
    waited: int = stopping["attributes"]["early_stopping_patience_counter"]
    patience: int = stopping["args"]["early_stopping_patience"]
    return waited >= patience


def fit_at(state: TrainerState, tensors: dict[str, Tensor]) -> Fit:
    """Return the result of training that ended at a state with these tensors.

    Raises:
        DivergedError: a weight is not a number.
    """
    if not all(bool(tensor.isfinite().all()) for tensor in tensors.values()):
        raise DivergedError(
            state.global_step, "the adapter's weights are no longer finite: train with a lower learning_rate"
        )
    return Fit(tensors, state.global_step, _curve(state.log_history), state.max_steps)


def fit_of_ended(checkpoint: Path) -> Fit | None:
    """Return the result of training that ended at a checkpoint, or None if it goes on from there.

    Raises:
        DivergedError: as `fit_at`.
        TrainError: the tensors cannot be read.
    """
    state = TrainerState.load_from_json(str(checkpoint / _STATE_FILE))
    if not has_ended(state):
        return None
    # Only a run with early stopping has a best step. It is looked up next to this one: the folder may have been moved.
    best = checkpoint if state.best_global_step is None else checkpoint_path(checkpoint.parent, state.best_global_step)
    try:
        return fit_at(state, load_file(best / _TENSORS_FILE))
    except (OSError, SafetensorError) as error:
        raise TrainError(f"{best / _TENSORS_FILE} cannot be read: {error}") from error


def _curve(history: Sequence[Mapping[str, float]]) -> tuple[Scores, ...]:
    """Return all held-out scores, including a resumed run's earlier ones."""
    entries = (
        {name.removeprefix(SCORE_PREFIX): value for name, value in entry.items() if name.startswith(SCORE_PREFIX)}
        for entry in history
    )
    return tuple(entry for entry in entries if entry)
