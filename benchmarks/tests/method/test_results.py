"""A results file survives a kill at any byte: whole lines stay, a torn one is replaced."""

from pathlib import Path

import pytest

from benchmarks.method.results import append_result, find, read_results
from benchmarks.tests.method.made_up import made_up


def test_results_come_back_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    assert read_results(path) == []
    results = made_up(70, lambda _: 20)
    for result in results:
        append_result(path, result)
    assert read_results(path) == results
    assert find(results, results[3].cell) == results[3]
    assert find(results[:3], results[3].cell) is None


@pytest.mark.parametrize("kept", [0, 1, 50])
def test_a_line_torn_by_a_kill_is_not_read_and_the_next_one_replaces_it(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "runs.jsonl"
    first, second, third = made_up(3, lambda _: 20)
    append_result(path, first)
    whole = path.read_bytes()
    append_result(path, second)
    path.write_bytes(path.read_bytes()[: len(whole) + kept])
    assert read_results(path) == [first]
    append_result(path, third)
    assert read_results(path) == [first, third]
