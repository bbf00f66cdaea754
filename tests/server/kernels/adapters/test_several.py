"""Rows with several adapters, each scaled, get the sum of what the method's reference says, on every kernel path."""

from collections.abc import Callable, Sequence

import msgspec
import pytest
import torch

from harness.adapters.artifacts import adapter_config, pack, random_tensors
from harness.adapters.mixed_sites import MIXED_SITES, MLP_SITES
from harness.bases.tiny_model import tiny_shape
from harness.engine.static_rig import fixed_storage
from headmix_adapters.artifact.parse import read_stored
from headmix_adapters.config import BaseShape, HeadPart, SharedPart, SiteConfig, Sites
from headmix_server.device.adapters.adapter_files import from_stored
from headmix_server.device.adapters.image_storage import ImageStorage
from headmix_server.device.adapters.slot_storage import SlotStorage
from headmix_server.device.adapters.term_storage import TermStorage
from headmix_server.kernels.adapters.image_reference import ReferenceAdapters
from headmix_server.kernels.adapters.native import NativeAdapters
from headmix_server.kernels.adapters.protocol import StepAdapters
from headmix_server.kernels.adapters.slot_span import SlotSpan, SlotUse
from headmix_server.kernels.native.build import find_compiler
from headmix_server.kernels.native.loading import load_native
from tests.support.device.images import Adapter
from tests.support.device.step_adapters import added, assert_rows_match, random_batch

BASE = msgspec.structs.replace(tiny_shape(), intermediate_size=48)
KEY_SITES = Sites(
    k=SiteConfig(shared=SharedPart(rank=2, scale=20.0)),
    v=SiteConfig(head=HeadPart(rank=2, base="k"), shared=SharedPart(rank=1)),
)
"""Adds so much to the key that a value computed from the wrong one shows."""
SLOT_SITES = (*MIXED_SITES, MLP_SITES, KEY_SITES, KEY_SITES)
SPANS = [
    SlotSpan(0, 1, 1, 1.0, (SlotUse(6, 0.5),)),
    SlotSpan(6, 2, 3, 0.7, (SlotUse(7, -0.3), SlotUse(1, 2.0))),
    SlotSpan(7, 5, 1),
    SlotSpan(2, 6, 20, 0.25),
    SlotSpan(5, 27, 2, 3.0, (SlotUse(3, 1.0), SlotUse(4, 0.0), SlotUse(2, 1.0))),
    SlotSpan(0, 29, 1, 1.0, (SlotUse(6, 0.5),)),
]
"""Row 0, 26 and 30 run with the base alone."""
TOKENS = 31

MakeStorage = Callable[[BaseShape, int], SlotStorage]


def native_storage(base: BaseShape, slots: int) -> SlotStorage:
    if find_compiler() is None:
        pytest.skip("no C++ compiler on this machine")
    assert load_native()
    return ImageStorage(base, slots, NativeAdapters)


STORAGES: dict[str, MakeStorage] = {
    "native": native_storage,
    "image reference": lambda base, slots: ImageStorage(base, slots, ReferenceAdapters),
    "torch": lambda base, slots: TermStorage(base, slots, torch.float32),
    "in passes": fixed_storage,
}


def adapters(base: BaseShape = BASE) -> dict[int, Adapter]:
    found = {}
    for slot, sites in enumerate(SLOT_SITES):
        config = adapter_config(base, sites)
        layers = (0, 1, 2) if slot % 3 else (1,)
        found[slot] = Adapter(config, layers, random_tensors(config, slot, layers))
    return found


def step(storage: SlotStorage, spans: Sequence[SlotSpan]) -> StepAdapters:
    for slot, adapter in adapters().items():
        image = from_stored("sha256:0", read_stored(bytearray(pack(adapter.config, dict(adapter.tensors))))).image
        storage.put(slot, storage.stage(image))
    made = storage.step(spans)
    assert made is not None
    return made


@pytest.mark.parametrize("path", STORAGES)
@pytest.mark.parametrize("layer", [0, 1])
def test_every_row_gets_the_sum_of_its_adapters(path: str, layer: int) -> None:
    made = step(STORAGES[path](BASE, len(SLOT_SITES)), SPANS)
    assert_rows_match(made, random_batch(BASE, TOKENS, seed=layer), layer, adapters(), SPANS, BASE)


@pytest.mark.parametrize("path", STORAGES)
def test_rows_of_one_unscaled_adapter_have_the_same_bits_beside_rows_of_several(path: str) -> None:
    plain = [SlotSpan(slot, 2 * slot, 2) for slot in range(6)]
    mixed = [*plain, SlotSpan(6, 12, 2, 0.7, (SlotUse(0, 2.0),))]
    batch = random_batch(BASE, 14, seed=0)
    before = added(step(STORAGES[path](BASE, len(SLOT_SITES)), plain), batch, 1)
    after = added(step(STORAGES[path](BASE, len(SLOT_SITES)), mixed), batch, 1)
    for name, found in after.items():
        assert torch.equal(found[:12], before[name][:12]), name


@pytest.mark.parametrize("path", ["native"])
def test_a_row_of_several_adapters_has_the_same_bits_alone_and_in_any_batch(path: str) -> None:
    batch = random_batch(BASE, TOKENS, seed=3)
    together = added(step(STORAGES[path](BASE, len(SLOT_SITES)), SPANS), batch, 1)
    for span in SPANS:
        alone = [span._replace(first=span.rows[-1], num_rows=1)]
        for name, found in added(step(STORAGES[path](BASE, len(SLOT_SITES)), alone), batch, 1).items():
            assert torch.equal(found[span.rows[-1]], together[name][span.rows[-1]]), (name, span)


@pytest.mark.parametrize("path", STORAGES)
def test_the_order_of_adapters_matters_only_in_the_last_bits(path: str) -> None:
    turned = [SlotSpan(1, 0, 2, 2.0, (SlotUse(6, 0.7),)), SlotSpan(6, 2, 2, 0.7, (SlotUse(1, 2.0),))]
    batch = random_batch(BASE, 4, seed=0)
    batch.x[2:], batch.qkv[2:], batch.attention[2:] = batch.x[:2], batch.qkv[:2], batch.attention[:2]
    batch.out[2:], batch.gate_up[2:], batch.inner[2:] = batch.out[:2], batch.gate_up[:2], batch.inner[:2]
    for name, found in added(step(STORAGES[path](BASE, len(SLOT_SITES)), turned), batch, 1).items():
        assert torch.allclose(found[:2], found[2:], atol=1e-5), name
