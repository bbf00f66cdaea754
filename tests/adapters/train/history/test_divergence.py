"""A loss that is no number, or that stays far above its start, ends training; a rough patch doesn't."""

import math

import pytest

from headmix_adapters.train.errors import DivergedError
from headmix_adapters.train.history.divergence import DivergenceWatch


def watch(losses: list[float], *, total: int = 100, squares: bool = False) -> int | None:
    """Return the step at which training is given up."""
    watched = DivergenceWatch(total, squares=squares)
    for step, loss in enumerate(losses, 1):
        try:
            watched.check(step, loss)
        except DivergedError as error:
            return error.step
    return None


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_ends_training_at_once(loss: float) -> None:
    assert watch([0.7, loss]) == 2


def test_a_loss_far_above_its_start_ends_training_and_a_single_bad_step_does_not() -> None:
    assert watch([0.7] * 30 + [12.0] * 30) == 35
    assert watch([0.7] * 30 + [1e6] * 3 + [0.7] * 30) is None
    assert watch([0.7] * 10 + [2.2] * 50) is None
    assert watch([11.0] * 30 + [0.5] * 30) is None


def test_squared_errors_have_a_unit_and_outliers() -> None:
    assert watch([1e6] * 30 + [9e6] * 30, squares=True) is None
    assert watch([1e-3] * 30 + [2e-2] * 30, squares=True) is not None


def test_the_first_steps_of_a_run_are_not_judged() -> None:
    assert watch([0.7, 9.0, 9.0, 9.0, 9.0, 9.0], total=6) is None


def test_a_resumed_run_is_judged_like_an_uninterrupted_one() -> None:
    losses = [0.7] * 30 + [12.0] * 30
    resumed = DivergenceWatch(100, losses[:33])
    resumed.check(34, losses[33])
    with pytest.raises(
        DivergedError, match=r"6\.35 in the last 10 steps .*, 0\.7 in the first; train with a lower"
    ) as caught:
        resumed.check(35, losses[34])
    assert caught.value.step == 35


def test_a_rate_far_too_high_is_noticed_though_it_spoils_the_first_steps_already() -> None:
    seen = [0.71, 0.71, 0.24, 7.79, 18.91, 2.98, 4.67, 0.0, 0.02, 0.98, 9.64, 0.0, 0.0, 9.14, 66.68, 0.0, 45.89, 3.13]
    seen += [14.52, 9.7, 11.28, 18.99, 18.54, 4.78, 0.78, 8.44, 0.0, 0.0, 0.0, 24.25, 39.91, 47.6]
    assert watch(seen, total=201) == 25
