from benchmarks.beside_batch import GAP_SECONDS, figures, steadily


def test_requests_come_one_after_the_other_with_gaps_in_which_a_batch_advances() -> None:
    gaps: list[float] = []
    assert steadily(lambda: 0.1, 3, gaps.append) == [0.1] * 3
    assert gaps == [GAP_SECONDS] * 3


def test_figures_are_milliseconds() -> None:
    assert figures([0.1] * 100) == {"p50": 100.0, "p95": 100.0, "p99": 100.0}
