"""Figures for hyperparameters left to us, and OpenAI's three as keys of a recipe.

The rules are for small data: enough epochs for a hundred optimizer steps, within bounds.
"""

import math
from typing import Any

from headmix_adapters.config import Task
from headmix_adapters.train.recipe.quick_recipe import EPOCHS, USUAL_TRAINING
from headmix_server.fine_tuning.request import Hyperparameters

ENOUGH_STEPS = 100
MOST_AUTO_EPOCHS = 10


def resolve(asked: Hyperparameters, task: Task, examples: int) -> Hyperparameters:
    """Return the same hyperparameters without `auto`, for this number of training examples."""
    usual = int(USUAL_TRAINING[task]["batch_size"])
    batch = usual if asked.batch_size == "auto" else asked.batch_size
    enough = math.ceil(ENOUGH_STEPS * batch / max(examples, 1))
    epochs = min(max(enough, EPOCHS), MOST_AUTO_EPOCHS) if asked.n_epochs == "auto" else asked.n_epochs
    multiplier = 1.0 if asked.learning_rate_multiplier == "auto" else asked.learning_rate_multiplier
    return Hyperparameters(n_epochs=epochs, batch_size=batch, learning_rate_multiplier=multiplier)


def training_keys(resolved: Hyperparameters, task: Task, seed: int) -> dict[str, Any]:
    """Return the keys of a recipe's `[training]` for hyperparameters without `auto`.

    The multiplier is of the learning rate that `headmix train` takes by default.
    """
    multiplier = resolved.learning_rate_multiplier
    if multiplier == "auto":
        raise ValueError("the hyperparameters have not been resolved")
    return {
        "epochs": resolved.n_epochs,
        "batch_size": resolved.batch_size,
        "learning_rate": multiplier * float(USUAL_TRAINING[task]["learning_rate"]),
        "seed": seed,
    }
