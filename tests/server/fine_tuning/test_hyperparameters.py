import pytest

from headmix_adapters.config import Task
from headmix_server.fine_tuning.hyperparameters import resolve, training_keys
from headmix_server.fine_tuning.request import Hyperparameters


@pytest.mark.parametrize(
    ("task", "examples", "epochs", "batch"),
    [("generation", 270, 3, 8), ("generation", 12, 10, 8), ("classification", 180, 9, 16), ("generation", 10**6, 3, 8)],
)
def test_auto_becomes_epochs_for_enough_steps_within_bounds(task: Task, examples: int, epochs: int, batch: int) -> None:
    resolved = resolve(Hyperparameters(), task, examples)
    assert resolved == Hyperparameters(n_epochs=epochs, batch_size=batch, learning_rate_multiplier=1.0)


def test_figures_that_were_given_stay() -> None:
    given = Hyperparameters(n_epochs=2, batch_size=1, learning_rate_multiplier=0.5)
    assert resolve(given, "generation", 5) == given
    keys = training_keys(given, "generation", seed=4)
    assert keys == {"epochs": 2, "batch_size": 1, "learning_rate": pytest.approx(0.000625), "seed": 4}


def test_auto_is_no_figure_of_a_recipe() -> None:
    with pytest.raises(ValueError, match="resolved"):
        training_keys(Hyperparameters(), "generation", seed=0)
