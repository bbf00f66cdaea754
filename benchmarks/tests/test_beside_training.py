from benchmarks.beside_training import BURST, PAUSE_SECONDS, bursts, compare, figures


def test_requests_come_in_bursts_with_pauses_in_which_an_idle_worker_trains() -> None:
    pauses: list[float] = []
    assert bursts(lambda: 0.1, 2 * BURST + 1, pauses.append) == [0.1] * (2 * BURST + 1)
    assert pauses == [PAUSE_SECONDS] * 3


def test_modes_are_compared_with_a_server_that_does_not_train() -> None:
    found = {"off": figures([0.1] * 100), "here": figures([0.12] * 100)}
    assert found["off"] == {"p50": 100.0, "p95": 100.0, "p99": 100.0}
    assert compare(found) == {"here": 1.2}
    assert compare({"here": found["here"]}) == {}
