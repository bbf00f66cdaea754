"""The scheduler's benchmark times steps in which every sequence decodes."""

from benchmarks.scheduler import measure


def test_every_figure_is_a_duration_and_the_parts_are_within_the_whole() -> None:
    figures = measure(4, 3, 3)
    assert all(value > 0 for value in figures.values())
    assert figures["both_us"] >= max(figures["schedule_us"], figures["commit_us"])
