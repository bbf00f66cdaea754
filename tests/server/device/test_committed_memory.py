"""Adapters stay within their budget of CPU memory, in both kinds of storage."""

from pathlib import Path

import msgspec
import pytest
import torch

from harness.adapters.artifacts import adapter_config, pack, random_tensors
from harness.adapters.mixed_sites import MIXED_SITES
from harness.bases.tiny_model import tiny_shape
from harness.engine.static_rig import fixed_storage
from headmix_adapters.artifact.parse import read_stored
from headmix_adapters.config import SharedPart, SiteConfig, Sites
from headmix_server.device.adapters import image_arena
from headmix_server.device.adapters.adapter_files import from_stored
from headmix_server.device.adapters.adapter_image import AdapterImage
from headmix_server.device.adapters.image_arena import GRAIN, ImageArena
from headmix_server.device.adapters.image_storage import ImageStorage
from headmix_server.device.adapters.reserved_memory import ReservedMemory, reserve
from headmix_server.device.adapters.slot_storage import SlotStorage
from headmix_server.device.adapters.term_storage import TermStorage
from headmix_server.kernels.adapters.native import NativeAdapters
from headmix_server.kernels.adapters.slot_span import SlotSpan

BASE = msgspec.structs.replace(tiny_shape(), intermediate_size=48)
SITES = [Sites(**{site: SiteConfig(shared=SharedPart(rank=64))}) for site in ("q", "k", "v", "o", "gate_up", "down")]


def make_image(sites: Sites, seed: int = 0, dtype: torch.dtype = torch.float32) -> AdapterImage:
    config = adapter_config(BASE, sites, method="lora" if sites in SITES else "kernel-mix")
    tensors = {name: tensor.to(dtype) for name, tensor in random_tensors(config, seed).items()}
    return from_stored("sha256:0", read_stored(bytearray(pack(config, tensors)))).image


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * 4096


def test_terms_of_one_adapter_after_the_other_never_take_the_sum_of_their_peaks() -> None:
    one = max(TermStorage(BASE, 4, torch.float32).size_of(make_image(sites)) for sites in SITES)
    storage = TermStorage(BASE, 4, torch.float32, max_bytes=2 * one)
    for round_number in range(3):
        for sites in SITES:
            image = make_image(sites, round_number)
            storage.put(0, image)
            storage.put(1, image)
            assert storage.committed_bytes <= 2 * one + 4096 * len(SITES)  # the row of zeros that each term has
            storage.remove(0)
            storage.remove(1)


def test_rows_that_move_together_compute_as_before() -> None:
    free, bounded = TermStorage(BASE, 4, torch.float32), TermStorage(BASE, 4, torch.float32, max_bytes=1)
    images = [make_image(sites, seed) for seed, sites in enumerate((*MIXED_SITES[:3], SITES[0]))]
    for storage in (free, bounded):
        for slot, image in enumerate(images):
            storage.put(slot, image)
        storage.remove(1)
        storage.put(1, images[0])
    spans = [SlotSpan(slot, 2 * slot, 2) for slot in range(4)]
    for layer in range(BASE.num_layers):
        outputs = []
        for storage in (free, bounded):
            step = storage.step(spans)
            assert step is not None
            torch.manual_seed(layer)
            qkv = torch.zeros(8, (BASE.num_heads + 2 * BASE.num_kv_heads) * BASE.head_dim)
            step.add_qkv(layer, torch.randn(8, BASE.hidden_size), qkv)
            outputs.append(qkv)
        assert torch.equal(*outputs)


@pytest.mark.parametrize("dtypes", [(torch.bfloat16,), (torch.float32, torch.bfloat16)])
def test_images_that_left_are_given_back_once_the_budget_asks_for_it(dtypes: tuple[torch.dtype, ...]) -> None:
    numbers, budget = 3 * GRAIN // 2, 12 * GRAIN
    arenas = {dtype: ImageArena(8, dtype, budget) for dtype in dtypes}
    for dtype, arena in arenas.items():
        starts = [arena.put(torch.full((numbers,), 1.0, dtype=dtype)) for _ in range(3)]
        assert arena.committed_bytes >= 3 * numbers * dtype.itemsize
        for start in starts:
            arena.remove(start)
        before = resident_bytes()
        arena.give_back()
        assert arena.committed_bytes <= GRAIN
        assert before - resident_bytes() >= 2 * numbers * dtype.itemsize
        kept = arena.put(torch.full((numbers,), 2.0, dtype=dtype))
        assert bool((arena.numbers[kept : kept + numbers] == 2).all())


def test_what_is_held_survives_giving_back_what_lies_between() -> None:
    arena = ImageArena(8, torch.float32, 64 * GRAIN)
    numbers = 3 * GRAIN // 4
    starts = [arena.put(torch.full((numbers,), float(value))) for value in range(5)]
    for index in (1, 3):
        arena.remove(starts[index])
    arena.give_back()
    for index in (0, 2, 4):
        assert bool((arena.numbers[starts[index] : starts[index] + numbers] == index).all())


def test_memory_for_all_that_may_ever_be_held_is_reserved_at_once_so_nothing_moves() -> None:
    arena = ImageArena(8, torch.float32, 64 * GRAIN)
    arena.put(torch.ones(16))
    place = arena.numbers.data_ptr()
    for _ in range(16):
        arena.put(torch.ones(GRAIN))  # much larger than the first
    assert arena.numbers.data_ptr() == place


def test_where_that_cannot_be_reserved_the_arena_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    real = reserve

    def little(numel: int, dtype: torch.dtype) -> ReservedMemory:
        if numel > 1_000_000:
            raise OSError(12, "no such address space")
        return real(numel, dtype)

    monkeypatch.setattr(image_arena, "reserve", little)
    arena = ImageArena(2, torch.float32, 2**40)
    starts = [arena.put(torch.full((size,), float(size))) for size in (100, 5000, 20000)]
    for start, size in zip(starts, (100, 5000, 20000), strict=True):
        assert arena.numbers[start : start + size].tolist() == [float(size)] * size


@pytest.mark.parametrize("kind", ["images", "terms", "fixed"])
def test_a_storage_says_beforehand_what_an_adapter_will_take(kind: str) -> None:
    storage: SlotStorage
    if kind == "images":
        storage = ImageStorage(BASE, 4, NativeAdapters)
    else:
        storage = TermStorage(BASE, 4, torch.float32) if kind == "terms" else fixed_storage(BASE, 4)
    for slot, sites in enumerate((*MIXED_SITES[:2], SITES[0])):
        image = make_image(sites, slot)
        before, told = storage.committed_bytes, storage.size_of(image)
        assert told >= image.numbers.numel() * (storage.number_bytes or image.numbers.itemsize) * 0.8
        assert storage.fits(image, ())
        storage.put(slot, image)
        assert storage.committed_bytes >= before
        if kind == "fixed":
            assert storage.committed_bytes == before + told


def test_a_fixed_block_knows_whether_a_run_is_free_once_slots_are_empty() -> None:
    image = make_image(SITES[0])
    units = image.numbers.numel()
    storage = fixed_storage(BASE, 4, capacity=4 * units, max_rank=64)
    for slot in range(4):
        assert storage.fits(image, ())
        storage.put(slot, image)
    double = make_image(Sites(q=SiteConfig(shared=SharedPart(rank=128))))
    assert not storage.fits(image, ())
    assert not storage.fits(double, [0, 2])
    assert storage.fits(double, [1, 2])
    storage.remove(0)
    storage.remove(2)
    assert not storage.fits(double, ())
    assert storage.fits(double, [1])
