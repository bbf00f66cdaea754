"""The reference implementation for images matches the method's reference, row by row."""

import msgspec
import pytest

from harness.adapters.artifacts import adapter_config, random_tensors
from harness.adapters.mixed_sites import MIXED_SITES
from harness.bases.tiny_model import tiny_shape
from headmix_adapters.config import SharedPart, SiteConfig, Sites
from headmix_server.kernels.adapters.image_reference import ReferenceAdapters
from headmix_server.kernels.adapters.image_tables import build_row_route
from headmix_server.kernels.adapters.slot_span import SlotSpan
from tests.support.device.images import Adapter, image_tables
from tests.support.device.step_adapters import assert_rows_match, random_batch

BASE = msgspec.structs.replace(tiny_shape(), intermediate_size=48)
MLP_SITES = Sites(
    gate_up=SiteConfig(shared=SharedPart(rank=3, scale=0.5)), down=SiteConfig(shared=SharedPart(rank=2, scale=2.0))
)


@pytest.mark.parametrize("layer", [0, 1, 2])
@pytest.mark.parametrize("bf16", [False, True])
def test_every_row_gets_what_the_reference_says_for_its_adapter(layer: int, bf16: bool) -> None:
    adapters = {}
    for slot, sites in enumerate((*MIXED_SITES, MLP_SITES)):
        layers = (0, 1, 2) if slot % 2 else (1,)
        config = adapter_config(BASE, sites)
        tensors = {name: t.bfloat16().float() for name, t in random_tensors(config, slot, layers).items()}
        adapters[slot] = Adapter(config, layers, tensors, bf16=bf16 and slot % 3 == 0)
    tables = image_tables(BASE, 8, adapters)
    spans = [
        SlotSpan(0, 1, 1),
        SlotSpan(3, 2, 9),
        SlotSpan(1, 12, 1),
        SlotSpan(5, 14, 3),
        SlotSpan(2, 17, 1),
        SlotSpan(4, 18, 2),
        SlotSpan(3, 20, 1),
    ]  # rows 0, 11, 13: base
    route = build_row_route(spans)
    assert route is not None
    batch = random_batch(BASE, tokens=22, seed=layer)
    assert_rows_match(ReferenceAdapters(tables, route), batch, layer, adapters, spans, BASE)


def test_a_slot_without_an_adapter_adds_nothing() -> None:
    route = build_row_route([SlotSpan(1, 0, 2)])
    assert route is not None
    batch = random_batch(BASE, tokens=2, seed=0)
    assert_rows_match(ReferenceAdapters(image_tables(BASE, 2, {}), route), batch, 0, {}, [], BASE)
