"""Without a terminal every finished cell is a line with the time left; with one there is a bar."""

import io

from rich.console import Console

from benchmarks.method.display import BarDisplay, Display, display_on
from benchmarks.tests.method.made_up import made_up


def test_the_time_left_allows_for_how_slow_the_machine_has_been() -> None:
    times = iter([0.0, 30.0])
    written = io.StringIO()
    display = Display(Console(file=written, width=160), lambda: next(times))
    _, tuned = made_up(2, lambda _: 30)
    display.begin(tuned.cell, left=110.0)
    display.end(tuned)  # 10 CPU seconds took 30
    assert (
        "category, small: Kernel-mix, rate 0.001, seed 101 (tuning): accuracy 0.7500 (5:00 left)" in written.getvalue()
    )


def test_a_terminal_gets_a_bar_with_the_cells_steps() -> None:
    written = io.StringIO()
    assert type(display_on(Console(file=written))) is Display
    display = display_on(Console(file=written, force_terminal=True, width=160))
    assert isinstance(display, BarDisplay)
    _, tuned = made_up(2, lambda _: 30)
    display.begin(tuned.cell, left=110.0)
    progress = display.training()
    progress.begin(0, 60, 3)
    assert progress.wants(30)
    progress.step(30, 1.5, 0.5)
    display.end(tuned)
    display.close()
    assert "category, small: Kernel-mix" in written.getvalue()
