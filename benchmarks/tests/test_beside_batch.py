from benchmarks.beside_batch import GAP_SECONDS, steadily


def test_requests_come_one_after_the_other_with_gaps_in_which_a_batch_advances() -> None:
    gaps: list[float] = []
    assert steadily(lambda: 0.1, 3, gaps.append) == [0.1] * 3
    assert gaps == [GAP_SECONDS] * 3
