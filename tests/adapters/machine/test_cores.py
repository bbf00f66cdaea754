"""A team that takes every core stays where it is; one that leaves cores free, or is told where to run, moves freely."""

import os
from pathlib import Path

import pytest

from headmix_adapters.machine.cores import OPERATORS_CHOICE, choose_cores
from headmix_adapters.machine.cpus import CpuBudget

ALL = CpuBudget(affinity=8, quota=None)
NOTHING: dict[str, str] = {}


@pytest.fixture(autouse=True)
def eight_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {8, 9, 10, 11, 0, 1, 2, 3}, raising=False)


@pytest.fixture
def paired(tmp_path: Path) -> Path:
    """Write a system's folder in which CPU n and n + 8 are one core."""
    for cpu in range(16):
        folder = tmp_path / f"cpu{cpu}/topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(f"{cpu % 8},{cpu % 8 + 8}\n")
    return tmp_path


def test_as_many_threads_as_cpus_have_one_each(paired: Path) -> None:
    assert choose_cores(8, ALL, NOTHING, paired) == [[0], [1], [2], [3], [8], [9], [10], [11]]


def test_as_many_threads_as_physical_cores_have_both_siblings(paired: Path) -> None:
    assert choose_cores(4, ALL, NOTHING, paired) == [[0, 8], [1, 9], [2, 10], [3, 11]]


@pytest.mark.parametrize("threads", [2, 3, 5, 7, 9, 16])
def test_a_team_of_another_size_moves_freely(paired: Path, threads: int) -> None:
    assert choose_cores(threads, ALL, NOTHING, paired) is None


def test_one_thread_waits_for_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {5})
    assert choose_cores(1, CpuBudget(affinity=1, quota=None), NOTHING) is None


def test_cpus_whose_siblings_cannot_be_read_are_cores(tmp_path: Path) -> None:
    assert choose_cores(4, ALL, NOTHING, tmp_path) is None
    assert choose_cores(8, ALL, NOTHING, tmp_path) is not None


def test_a_team_within_a_quota_moves_freely(paired: Path) -> None:
    assert choose_cores(4, CpuBudget(affinity=8, quota=4.0), NOTHING, paired) is None
    assert choose_cores(8, CpuBudget(affinity=8, quota=9.0), NOTHING, paired) is not None


@pytest.mark.parametrize("name", OPERATORS_CHOICE)
def test_what_the_operator_says_counts(paired: Path, name: str) -> None:
    assert choose_cores(8, ALL, {name: "false"}, paired) is None


def test_a_system_that_cannot_tell_moves_threads_itself(monkeypatch: pytest.MonkeyPatch, paired: Path) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    assert choose_cores(8, ALL, NOTHING, paired) is None
