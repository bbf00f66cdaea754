"""CPUs are counted as the kernel grants them to the process, not as the machine has them."""

import os
from pathlib import Path

import pytest
import torch

from headmix_adapters.machine.cpus import CpuBudget, read_cpu_budget
from headmix_adapters.machine.threads import limit_threads

V1 = "33 31 0:30 {top} /sys/fs/cgroup/cpu rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct"
V2 = "41 31 0:38 {top} /sys/fs/cgroup rw,relatime - cgroup2 cgroup2 rw"
OTHER = "35 31 0:32 / /sys/fs/cgroup/cpuset rw,relatime - cgroup cgroup rw,cpuset"


@pytest.fixture(autouse=True)
def eight_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)


def machine(root: Path, groups: str, *mounts: str, **files: str) -> Path:
    """Write what /proc says about the process, and control group files by their paths (`__` is a slash)."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(groups)
    (root / "proc/self/mountinfo").write_text("\n".join([OTHER, *mounts]) + "\n")
    for name, text in files.items():
        folder, _, file = name.replace("__", "/").rpartition("/")
        path = root / "sys/fs/cgroup" / folder / file.replace("_", ".", 1)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("cpu_max", "cores", "quota"),
    [
        ("max 100000\n", 8, None),
        ("50000 100000\n", 1, 0.5),
        ("200000 100000\n", 2, 2.0),
        ("250000 100000\n", 3, 2.5),
        ("9900000 100000\n", 8, 99.0),
        ("nonsense\n", 8, None),
        ("0 0\n", 8, None),
    ],
)
def test_a_quota_of_version_2_in_a_container(tmp_path: Path, cpu_max: str, cores: int, quota: float | None) -> None:
    root = machine(tmp_path, "0::/\n", V2.format(top="/"), cpu_max=cpu_max)
    budget = read_cpu_budget(root)
    assert (budget.cores, budget.quota, budget.affinity) == (cores, quota, 8)


def test_the_tightest_quota_of_all_groups_above_counts(tmp_path: Path) -> None:
    files = {"cpu_max": "max 100000", "a__cpu_max": "300000 100000", "a__b__cpu_max": "max 100000"}
    root = machine(tmp_path, "0::/a/b\n", V2.format(top="/"), **files)
    assert read_cpu_budget(root).cores == 3


def test_a_quota_of_version_1(tmp_path: Path) -> None:
    files = {"cpu__docker__x__cpu_cfs_quota_us": "150000\n", "cpu__docker__x__cpu_cfs_period_us": "100000\n"}
    root = machine(tmp_path, "3:cpuset:/\n1:cpu,cpuacct:/docker/x\n0::/\n", V1.format(top="/"), **files)
    assert read_cpu_budget(root) == CpuBudget(8, 1.5)


def test_a_container_of_version_1_that_sees_its_group_as_the_top(tmp_path: Path) -> None:
    files = {"cpu__cpu_cfs_quota_us": "400000\n", "cpu__cpu_cfs_period_us": "100000\n"}
    root = machine(tmp_path, "1:cpu,cpuacct:/docker/x\n", V1.format(top="/docker/x"), **files)
    assert read_cpu_budget(root).cores == 4


def test_no_quota_of_version_1_is_minus_one(tmp_path: Path) -> None:
    files = {"cpu__cpu_cfs_quota_us": "-1\n", "cpu__cpu_cfs_period_us": "100000\n"}
    assert read_cpu_budget(machine(tmp_path, "1:cpu:/\n", V1.format(top="/"), **files)) == CpuBudget(8, None)


def test_both_versions_side_by_side_both_count(tmp_path: Path) -> None:
    files = {
        "cpu__cpu_cfs_quota_us": "500000\n",
        "cpu__cpu_cfs_period_us": "100000\n",
        "unified__cpu_max": "600000 100000",
    }
    unified = V2.format(top="/").replace("/sys/fs/cgroup ", "/sys/fs/cgroup/unified ")
    assert read_cpu_budget(machine(tmp_path, "1:cpu:/\n0::/\n", V1.format(top="/"), unified, **files)).cores == 5


def test_a_group_outside_of_what_is_mounted_is_judged_by_the_top(tmp_path: Path) -> None:
    root = machine(tmp_path, "0::/../../elsewhere\n", V2.format(top="/"), cpu_max="100000 100000")
    assert read_cpu_budget(root).cores == 1


def test_affinity_bounds_and_a_system_without_control_groups_has_no_quota(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 5})
    assert read_cpu_budget(tmp_path) == CpuBudget(2, None)
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert read_cpu_budget(tmp_path).cores == 6


def test_torch_gets_no_more_threads_than_the_budget_and_never_more_than_it_had() -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        assert limit_threads(CpuBudget(8, 1.5)) == torch.get_num_threads() == 2
        assert limit_threads(CpuBudget(8, None)) == torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_this_process_has_at_least_one_core() -> None:
    assert read_cpu_budget().cores >= 1
