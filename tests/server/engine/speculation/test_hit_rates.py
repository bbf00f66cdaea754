"""How far a guess is worth computing follows from how often the ones before were right."""

import pytest

from headmix_server.engine.speculation.hit_rates import FIRST_RATES, LONGEST, MOST, SHORTEST, HitRates


def told(right: bool, times: int, length: int = LONGEST) -> HitRates:
    rates = HitRates()
    for _ in range(times):
        rates.count(length, right=right)
    return rates


def test_a_rate_goes_to_what_happens() -> None:
    assert told(True, 100).rate(LONGEST) == MOST
    assert told(False, 100).rate(LONGEST) == pytest.approx(0, abs=1e-6)


def test_lengths_are_kept_apart_and_the_longest_is_for_all_longer_ones() -> None:
    rates = told(True, 5, length=LONGEST + 3)
    assert rates.rate(LONGEST) == rates.rate(LONGEST + 9) > FIRST_RATES[-1]
    assert [rates.rate(SHORTEST), rates.rate(SHORTEST + 1)] == list(FIRST_RATES[:2])


@pytest.mark.parametrize("least", [0.2, 0.5, 0.9])
@pytest.mark.parametrize("times", [0, 3, 20])
def test_all_that_is_worth_it_is_right_together_with_that_chance(least: float, times: int) -> None:
    rates = told(True, times)
    count = rates.worth(SHORTEST, 8, least)
    chance = 1.0
    for place in range(count):
        chance *= rates.rate(SHORTEST + place)
    assert count == 0 or chance >= least
    assert count == 8 or chance * rates.rate(SHORTEST + count) < least


def test_never_more_than_the_most() -> None:
    assert told(True, 100).worth(LONGEST, 5, 0.0) == 5
    assert told(True, 100).worth(LONGEST, 0, 0.0) == 0
