"""The memory mapping is of the intended kind, which its content cannot show: the kernel is asked."""

import mmap
import sys
from pathlib import Path

import pytest
import torch
from structlog.testing import capture_logs
from torch import Tensor

from headmix_server.device.adapters import reserved_memory
from headmix_server.device.adapters.reserved_memory import noreserve_flag, reserve
from headmix_server.device.kv_memory import KVMemory
from headmix_server.models.config import ModelConfig

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells how memory is mapped")
PRESENT = 0x80
"""In the last byte of a page's entry."""
HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def flags_of(tensor: Tensor) -> set[str]:
    """Return the kernel's flags for a tensor's mapping."""
    address, inside = tensor.data_ptr(), False
    for line in Path("/proc/self/smaps").read_text(encoding="ascii").splitlines():
        name, *values = line.split()
        if not name.endswith(":"):
            first, _, end = name.partition("-")
            inside = int(first, 16) <= address < int(end, 16)
        elif inside and name == "VmFlags:":
            return set(values)
    raise AssertionError("the tensor lies in no mapping")


def resident_bytes(tensor: Tensor) -> int:
    """Return how much of a tensor is in memory, page by page: the kernel joins neighbouring mappings."""
    first, end = tensor.data_ptr() // mmap.PAGESIZE, -(-(tensor.data_ptr() + tensor.nbytes) // mmap.PAGESIZE)
    with Path("/proc/self/pagemap").open("rb") as pages:
        pages.seek(8 * first)
        entries = pages.read(8 * (end - first))
    return mmap.PAGESIZE * sum(last >= PRESENT for last in entries[7::8])


@linux
def test_memory_is_mapped_without_a_reservation_and_no_page_of_it_is_taken() -> None:
    memory = reserve(2**25, torch.float32).numbers
    assert "nr" in flags_of(memory)
    assert resident_bytes(memory) == 0
    assert int(memory[::100_000].count_nonzero()) == 0


@linux
@pytest.mark.skipif(not HUGE_PAGES.exists(), reason="this kernel has no huge pages")
@pytest.mark.parametrize("wanted", [True, False])
def test_huge_pages_are_asked_for_where_they_are_wanted(wanted: bool) -> None:
    with capture_logs() as lines:
        memory = reserve(2**25, torch.bfloat16, huge_pages=wanted).numbers
    assert ("hg" in flags_of(memory)) == wanted
    (line,) = lines
    assert (line["event"], line["noreserve"], line["mib"]) == ("memory reserved", True, 64)
    assert line["huge_pages"] == (True if wanted else "not asked for")


@linux
def test_the_flag_is_the_one_of_the_systems_own_headers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(mmap, "MAP_NORESERVE", raising=False)
    for machine, flag in {"x86_64": 0x4000, "aarch64": 0x4000, "ppc64le": 0x40, "abacus": 0}.items():
        monkeypatch.setattr("platform.machine", lambda machine=machine: machine)
        assert noreserve_flag() == flag


def test_a_python_that_names_the_flag_is_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mmap, "MAP_NORESERVE", 0x77, raising=False)
    assert noreserve_flag() == 0x77


def test_where_the_flag_is_unknown_the_mapping_is_still_private_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reserved_memory, "noreserve_flag", lambda: 0)
    with capture_logs() as lines:
        memory = reserve(33, torch.float32).numbers
    assert lines[0]["noreserve"] is False
    assert not memory.any()


def test_a_system_without_private_mappings_takes_the_memory_at_once_and_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(mmap, "MAP_ANONYMOUS")
    with capture_logs() as lines:
        assert reserve(33, torch.float32).numbers.tolist() == [0.0] * 33
    assert "taken at once" in lines[0]["event"]


def test_huge_pages_that_the_system_refuses_are_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mmap, "MADV_HUGEPAGE", 9999, raising=False)
    with capture_logs() as lines:
        memory = reserve(5000, torch.float32).numbers
    assert "Invalid" in lines[0]["huge_pages"]
    memory.fill_(3.0)
    assert memory.sum() == 15000


@linux
def test_the_cache_of_a_server_that_has_answered_nothing_takes_no_memory() -> None:
    config = ModelConfig(
        model_type="llama",
        hidden_size=64,
        num_layers=2,
        num_heads=2,
        num_kv_heads=2,
        head_dim=32,
        vocab_size=50,
        max_positions=64,
        eos_ids=frozenset(),
    )
    memory = KVMemory(config, num_blocks=4096, block_size=16, dtype=torch.float32)
    keys, values = memory.layers[0]
    assert resident_bytes(keys) == 0
    keys[:16] = 1.0
    assert 0 < resident_bytes(keys) <= keys[:16].nbytes + 2 * mmap.PAGESIZE
    assert not values[:16].any()
    assert not memory.layers[1][0][:16].any()
