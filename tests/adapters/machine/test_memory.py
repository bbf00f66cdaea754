"""Memory counts as the kernel grants it: the machine's, or what is left of a control group's limit."""

from pathlib import Path

import pytest

from headmix_adapters.machine.memory import available_memory

V1 = "33 31 0:30 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory"
V2 = "41 31 0:38 / /sys/fs/cgroup rw,relatime - cgroup2 cgroup2 rw"
GIB = 2**30


def machine(root: Path, own: str, mount: str, files: dict[str, str]) -> Path:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/meminfo").write_text("MemTotal:       33554432 kB\nMemAvailable:   8388608 kB\n")
    (root / "proc/self/cgroup").write_text(own)
    (root / "proc/self/mountinfo").write_text(mount + "\n")
    for name, text in files.items():
        path = root / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("files", "left"),
    [
        ({}, 8 * GIB),
        ({"memory.max": "max\n", "memory.current": "5\n"}, 8 * GIB),
        ({"memory.max": f"{4 * GIB}\n", "memory.current": f"{GIB}\n"}, 3 * GIB),
        (
            {"memory.max": f"{4 * GIB}", "memory.current": f"{3 * GIB}", "memory.stat": f"inactive_file {GIB}\n"},
            2 * GIB,
        ),
        ({"memory.max": f"{64 * GIB}", "memory.current": "0"}, 8 * GIB),
        ({"memory.max": f"{GIB}", "memory.current": f"{2 * GIB}"}, 0),
        ({"memory.max": "nonsense", "memory.current": "0"}, 8 * GIB),
    ],
)
def test_what_a_group_of_version_2_leaves(tmp_path: Path, files: dict[str, str], left: int) -> None:
    assert available_memory(machine(tmp_path, "0::/\n", V2, files)) == left


def test_the_tightest_limit_of_all_groups_above_counts(tmp_path: Path) -> None:
    files = {"a/memory.max": f"{2 * GIB}", "a/memory.current": "0", "a/b/memory.max": "max", "a/b/memory.current": "0"}
    assert available_memory(machine(tmp_path, "0::/a/b\n", V2, files)) == 2 * GIB


def test_what_a_group_of_version_1_leaves_and_its_number_for_no_limit(tmp_path: Path) -> None:
    files = {"memory/x/memory.limit_in_bytes": f"{GIB}", "memory/x/memory.usage_in_bytes": f"{GIB // 2}"}
    files |= {"memory/memory.limit_in_bytes": "9223372036854771712", "memory/memory.usage_in_bytes": "0"}
    assert available_memory(machine(tmp_path, "3:memory:/x\n", V1, files)) == GIB // 2


def test_this_machine_has_some() -> None:
    assert available_memory() > 2**20
