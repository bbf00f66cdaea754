"""What an adapter adds to a row depends on no other row and on no other adapter's weights, even if they are NaN."""

import math
from collections.abc import Callable

import msgspec
import pytest
import torch

from harness.adapters.artifacts import adapter_config, pack, random_tensors
from harness.adapters.mixed_sites import MIXED_SITES, MLP_SITES
from harness.bases.tiny_model import tiny_shape
from harness.engine.static_rig import fixed_storage
from headmix_adapters.artifact.parse import read_stored
from headmix_adapters.config import HeadPart, SharedPart, SiteConfig, Sites
from headmix_server.device.adapters.adapter_files import from_stored
from headmix_server.device.adapters.adapter_image import AdapterImage
from headmix_server.device.adapters.choose_storage import make_storage
from headmix_server.device.adapters.slot_storage import SlotStorage
from headmix_server.device.adapters.term_storage import TermStorage
from headmix_server.kernels.adapters.slot_span import SlotSpan
from headmix_server.kernels.native.loading import load_native
from tests.support.device.step_adapters import StepBatch, added, random_batch

BASE = msgspec.structs.replace(tiny_shape(), intermediate_size=48)
ODD = Sites(
    q=SiteConfig(head=HeadPart(rank=3, base="x"), shared=SharedPart(rank=7)),
    v=SiteConfig(head=HeadPart(rank=5, base="x"), shared=SharedPart(rank=1)),
    o=SiteConfig(head=HeadPart(rank=9, base="a"), shared=SharedPart(rank=33)),
    gate_up=SiteConfig(shared=SharedPart(rank=11)),
    down=SiteConfig(shared=SharedPart(rank=35)),
)
SITES = (*MIXED_SITES, MLP_SITES, ODD)
HUGE = 1.7e38

PATHS: dict[str, tuple[Callable[[], SlotStorage], torch.dtype]] = {
    "torch, float32": (lambda: TermStorage(BASE, 8, torch.float32), torch.float32),
    "torch, bfloat16": (lambda: TermStorage(BASE, 8, torch.bfloat16), torch.bfloat16),
    "native, float32": (lambda: make_storage("native", BASE, 8, torch.float32), torch.float32),
    "images, float32": (lambda: fixed_storage(BASE, 8), torch.float32),
}


@pytest.fixture(params=PATHS)
def path(request: pytest.FixtureRequest) -> str:
    if request.param.startswith("native") and not load_native():
        pytest.skip("no native kernels here")
    return str(request.param)


def image(number: int, *, huge: bool = False) -> AdapterImage:
    config = adapter_config(BASE, SITES[number])
    tensors = random_tensors(config, number)
    if huge:
        tensors = {name: torch.full_like(tensor, HUGE) for name, tensor in tensors.items()}
    return from_stored("sha256:0", read_stored(bytearray(pack(config, tensors)))).image


def spans_of(counts: list[int]) -> list[SlotSpan]:
    """Give each slot a number of rows, with a row of the base between slots."""
    spans, first = [], 1
    for slot, count in enumerate(counts):
        spans.append(SlotSpan(slot, first, count))
        first += count + 1
    return spans


def converted(batch: StepBatch, dtype: torch.dtype) -> StepBatch:
    return StepBatch(*(getattr(batch, name).to(dtype) for name in StepBatch.__slots__))


COUNTS = [[1] * 7, [30, 1, 1, 2, 5, 1, 1], [2, 40, 3, 1, 1, 17, 9]]


@pytest.mark.parametrize("poison", [math.nan, math.inf])
@pytest.mark.parametrize("counts", COUNTS)
def test_rows_that_are_no_numbers_change_no_other_row(path: str, counts: list[int], poison: float) -> None:
    make, dtype = PATHS[path]
    storage, spans = make(), spans_of(counts)
    for slot in range(len(SITES)):
        storage.put(slot, image(slot))
    tokens = spans[-1].rows.stop + 1
    sound = converted(random_batch(BASE, tokens, seed=1), dtype)
    step = storage.step(spans)
    assert step is not None
    expected = added(step, sound, 1)
    for slot, first, count, *_ in [*spans, SlotSpan(-1, 0, 1)]:  # each slot's rows in turn, then a row of the base
        broken = StepBatch(*(getattr(sound, name).clone() for name in StepBatch.__slots__))
        for name in StepBatch.__slots__:
            getattr(broken, name)[first : first + count] = poison
        others = torch.ones(tokens, dtype=torch.bool)
        others[first : first + count] = False
        for name, found in added(step, broken, 1).items():
            assert torch.equal(found[others], expected[name][others]), (name, slot)
            assert not found[~others].isfinite().any()


@pytest.mark.parametrize("counts", COUNTS)
def test_weights_that_overflow_change_no_row_of_another_adapter_then_or_later(path: str, counts: list[int]) -> None:
    make, dtype = PATHS[path]
    spans = spans_of(counts)
    tokens = spans[-1].rows.stop + 1
    batch = converted(random_batch(BASE, tokens, seed=1), dtype)
    for hostile in range(len(SITES)):
        storage = make()
        for slot in range(len(SITES)):
            storage.put(slot, image(slot))
        expected = added(storage.step(spans), batch, 1)  # type: ignore[arg-type]
        storage.remove(hostile)
        storage.put(hostile, image(hostile, huge=True))
        beside = added(storage.step(spans), batch, 1)  # type: ignore[arg-type]
        storage.remove(hostile)
        storage.put(hostile, image(hostile))  # its old content is overwritten or not touched
        after = added(storage.step(spans), batch, 1)  # type: ignore[arg-type]
        _, first, count, *_ = spans[hostile]
        others = torch.ones(tokens, dtype=torch.bool)
        others[first : first + count] = False
        for name, wanted in expected.items():
            assert torch.equal(beside[name][others], wanted[others]), (name, hostile)
            assert torch.equal(after[name], wanted), (name, hostile)
