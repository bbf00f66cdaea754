from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from headmix_server.tenancy.limits.sliding_window import WINDOW_MS, Window

counts = st.integers(0, 500)
positions = st.integers(0, WINDOW_MS - 1)


def at(window: Window, milliseconds: int) -> Window:
    """Return the window this much later, if nothing is added."""
    minutes, position = divmod(window.position + milliseconds, WINDOW_MS)
    previous, current = [(window.previous, window.current), (window.current, 0), (0, 0)][min(minutes, 2)]
    return Window(previous, current, position)


@given(counts, counts, positions, st.integers(1, 500), st.data())
def test_the_wait_is_the_least_after_which_the_cost_fits(
    previous: int, current: int, position: int, limit: int, data: st.DataObject
) -> None:
    window = Window(previous, current, position)
    cost = data.draw(st.integers(1, limit))
    wait = window.wait(cost, limit)
    assert at(window, wait).fits(cost, limit)
    assert wait == 0 or not at(window, wait - 1).fits(cost, limit)
    assert wait <= 2 * WINDOW_MS


@given(counts, counts, positions, st.integers(1, 500))
def test_what_remains_fits_and_one_more_does_not(previous: int, current: int, position: int, limit: int) -> None:
    window = Window(previous, current, position)
    remaining = window.remaining(limit)
    assert remaining == 0 or window.fits(remaining, limit)
    assert not window.fits(remaining + 1, limit)


@given(st.lists(st.tuples(st.integers(0, 40_000), st.integers(1, 60)), max_size=60), st.integers(1, 100))
def test_no_minute_gets_more_than_twice_the_limit_and_no_minute_of_the_clock_more_than_the_limit(
    arrivals: list[tuple[int, int]], limit: int
) -> None:
    now, counted, taken = 0, Counter[int](), list[tuple[int, int]]()
    for pause, cost in arrivals:
        now += pause
        minute, position = divmod(now, WINDOW_MS)
        if cost <= limit and Window(counted[minute - 1], counted[minute], position).fits(cost, limit):
            counted[minute] += cost
            taken.append((now, cost))
    assert all(total <= limit for total in counted.values())
    for begin, _ in taken:
        assert sum(cost for moment, cost in taken if begin <= moment < begin + WINDOW_MS) <= 2 * limit
