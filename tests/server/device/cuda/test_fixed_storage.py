"""Adapters in memory that never moves: what fits, what is waited for, and that addresses stay the same."""

from collections.abc import Callable, Iterable

import msgspec
import pytest
import torch

from harness.adapters.artifacts import adapter_config, pack, random_tensors
from harness.adapters.mixed_sites import MIXED_SITES, MLP_SITES
from harness.bases.tiny_model import tiny_shape
from harness.engine.static_rig import fixed_storage
from headmix_adapters.artifact.parse import read_stored
from headmix_adapters.config import SharedPart, SiteConfig, Sites
from headmix_server.core.runner import AdapterLoadError
from headmix_server.device.adapters.adapter_files import from_stored
from headmix_server.device.adapters.adapter_image import AdapterImage
from headmix_server.device.cuda.transfer import Ticket
from headmix_server.kernels.adapters.slot_span import SlotSpan
from headmix_server.kernels.triton.needs import Launches

BASE = msgspec.structs.replace(tiny_shape(), intermediate_size=48)


def make_image(sites: Sites, seed: int = 0) -> AdapterImage:
    config = adapter_config(BASE, sites)
    return from_stored("sha256:0", read_stored(bytearray(pack(config, random_tensors(config, seed))))).image


class LateTransfer:
    """Copies only when a caller waits: a step that reads without waiting finds nothing."""

    def __init__(self) -> None:
        self.pending: list[Callable[[], None]] = []

    def stage(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor

    def start(self, copies: Callable[[], None]) -> Ticket:
        self.pending.append(copies)
        return copies

    def wait(self, tickets: Iterable[Ticket]) -> None:
        for ticket in tickets:
            if ticket in self.pending:
                self.pending.remove(ticket)
                ticket()


def delta(storage: object, slot: int) -> torch.Tensor:
    step = storage.step([SlotSpan(slot, 0, 1)])  # type: ignore[attr-defined]
    qkv = torch.zeros(1, 96)
    step.add_qkv(0, torch.ones(1, 32), qkv)
    return qkv


def test_a_step_waits_for_the_copies_of_its_own_slots_and_for_no_other() -> None:
    transfer = LateTransfer()
    storage = fixed_storage(BASE, 2, transfer=transfer)
    storage.put(0, make_image(MIXED_SITES[0], 1))
    storage.put(1, make_image(MIXED_SITES[0], 2))
    assert len(transfer.pending) == 2
    found = delta(storage, 1)
    assert len(transfer.pending) == 1
    prompt = fixed_storage(BASE, 2)
    prompt.put(1, make_image(MIXED_SITES[0], 2))
    assert found.equal(delta(prompt, 1))
    assert found.any()


def test_a_copy_that_nobody_waited_for_does_not_fill_a_slot_that_was_emptied() -> None:
    transfer = LateTransfer()
    storage = fixed_storage(BASE, 1, transfer=transfer)
    storage.put(0, make_image(MIXED_SITES[0]))
    storage.remove(0)
    assert transfer.pending == []
    assert not delta(storage, 0).any()


def test_nothing_moves_when_adapters_come_and_go() -> None:
    storage = fixed_storage(BASE, 3)
    tables = storage.tables
    before = [t.data_ptr() for t in (tables.f32, tables.offsets, tables.ranks, tables.scales)]
    for seed in range(12):
        storage.put(seed % 3, make_image(MIXED_SITES[seed % 5], seed))
        storage.remove((seed + 1) % 3)
        storage.remove(seed % 3)
    assert storage.tables is tables
    assert [t.data_ptr() for t in (tables.f32, tables.offsets, tables.ranks, tables.scales)] == before


def test_an_adapter_that_does_not_fit_is_refused_and_its_neighbours_stay() -> None:
    image = make_image(MIXED_SITES[0])
    storage = fixed_storage(BASE, 2, capacity=image.numbers.numel() + 64)
    storage.put(0, image)
    expected = delta(storage, 0)
    for _ in range(3):
        with pytest.raises(AdapterLoadError, match="--adapter-memory-mib"):
            storage.put(1, image)
        storage.remove(1)
    assert delta(storage, 0).equal(expected)
    storage.remove(0)
    storage.put(1, image)
    assert delta(storage, 1).equal(expected)


def test_a_rank_that_no_captured_step_has_room_for_is_refused() -> None:
    storage = fixed_storage(BASE, 1, max_rank=2)
    with pytest.raises(AdapterLoadError, match="room for"):
        storage.put(0, make_image(Sites(q=SiteConfig(shared=SharedPart(rank=30)))))


def test_an_image_is_prepared_in_the_type_the_device_computes_in() -> None:
    config = adapter_config(BASE, MIXED_SITES[0])
    tensors = {name: tensor.bfloat16() for name, tensor in random_tensors(config, 0).items()}
    image = from_stored("sha256:0", read_stored(bytearray(pack(config, tensors)))).image
    prepared = fixed_storage(BASE, 1).stage(image)
    assert prepared.numbers.dtype == torch.float32
    assert prepared.offsets.equal(image.offsets)


def test_only_the_kernels_that_the_adapters_of_a_step_need_are_launched() -> None:
    storage = fixed_storage(BASE, 3)
    storage.put(0, make_image(MIXED_SITES[4]))
    storage.put(1, make_image(MLP_SITES))
    assert storage.launches([0]) == Launches(qkv=True, o=False, gate_up=False, down=False)
    assert storage.launches([1]) == Launches(qkv=False, o=False, gate_up=True, down=True)
    assert storage.launches([0, 1, 2]) == Launches(qkv=True, o=False, gate_up=True, down=True)
    assert storage.launches([2]) == Launches.of([])
