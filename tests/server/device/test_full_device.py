"""The engine with a GPU's adapter storage, on the CPU: a full block leads to an eviction, never to an error."""

import time
from collections.abc import Collection, Iterator

import msgspec
import pytest
import torch

from harness.adapters.artifacts import adapter_config, pack, random_tensors
from harness.bases.tiny_model import tiny_shape
from harness.engine.engines import adapter
from harness.engine.static_rig import fixed_storage
from headmix_adapters.artifact.parse import read_stored
from headmix_adapters.config import SharedPart, SiteConfig, Sites
from headmix_server.core.runner import HostAdapter
from headmix_server.core.types import AdapterRef
from headmix_server.device.adapters.adapter_files import LoadedAdapter, from_stored
from headmix_server.device.adapters.adapter_pool import AdapterPool
from headmix_server.engine.fake_runner import FakeRunner
from headmix_server.engine.residency.tiers import AdapterTiers

BASE = msgspec.structs.replace(tiny_shape(), intermediate_size=48)
RANKS = (4, 16, 4, 8, 32, 4, 4, 16, 8, 32, 4, 16)


def content(rank: int, seed: int) -> bytearray:
    config = adapter_config(BASE, Sites(q=SiteConfig(shared=SharedPart(rank=rank))), method="lora")
    return bytearray(pack(config, random_tensors(config, seed)))


class PoolRunner(FakeRunner):
    """Keeps real adapters in a real block of memory; computes nothing."""

    def __init__(self, numbers: int) -> None:
        super().__init__()
        self.pool = AdapterPool(fixed_storage(BASE, 8, capacity=numbers), torch.float32, torch.device("cpu"))

    def load(self, ref: AdapterRef) -> LoadedAdapter:  # type: ignore[override]  # what the real runner loads
        rank, seed = map(int, ref.path.split("-"))
        return self.pool.stage(from_stored(ref.digest, read_stored(content(rank, seed))))

    def install(self, slot: int, generation: int, adapter: HostAdapter) -> None:
        assert isinstance(adapter, LoadedAdapter)
        self.pool.install(slot, generation, adapter)

    def clear(self, slot: int) -> None:
        self.pool.clear(slot)

    def fits(self, adapter: HostAdapter, emptied: Collection[int]) -> bool:
        assert isinstance(adapter, LoadedAdapter)
        return self.pool.fits(adapter, emptied)


@pytest.fixture
def tiers() -> Iterator[AdapterTiers]:
    largest = from_stored("sha256:0", read_stored(content(32, 0))).image.numbers.numel()
    runner = PoolRunner(2 * largest)
    made = AdapterTiers(runner, 8, 100, 1, device_bytes=2 * largest * 4)
    yield made
    made.close()


def test_adapters_of_all_sizes_come_and_go_in_a_block_for_two_of_the_largest(tiers: AdapterTiers) -> None:
    evicted = 0
    for number, rank in enumerate((*RANKS, *reversed(RANKS))):
        ref = msgspec.structs.replace(adapter(f"r{number}"), path=f"{rank}-{number}")
        tiers.mark_seen("t")
        deadline = time.monotonic() + 20
        while not tiers.install(ref, "t") and time.monotonic() < deadline:
            assert tiers.poll_loads() == {}
        lease = tiers.slots.acquire(ref.digest, "t")
        tiers.slots.release(lease)
        tiers.slots.check_integrity([])
        tiers.check_integrity()
        evicted = tiers.take_counts().evictions["device"] + evicted
    assert evicted > 5
