"""The native operations match the reference for images, and the method's reference row by row."""

from collections.abc import Iterator
from dataclasses import replace

import msgspec
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from harness.adapters.artifacts import adapter_config, random_tensors
from harness.adapters.mixed_sites import MIXED_SITES
from harness.bases.tiny_model import tiny_shape
from headmix_adapters.config import BaseShape, HeadBase, HeadPart, SharedPart, SiteConfig, Sites
from headmix_server.kernels.adapters.image_reference import ReferenceAdapters
from headmix_server.kernels.adapters.image_tables import TERM_INDEX, ImageTables, RowRoute, build_row_route
from headmix_server.kernels.adapters.native import NativeAdapters, Schedule
from headmix_server.kernels.adapters.slot_span import SlotSpan, SlotUse
from headmix_server.kernels.native.build import find_compiler
from headmix_server.kernels.native.loading import load_native
from tests.support.device.images import Adapter, image_tables
from tests.support.device.step_adapters import StepBatch, added, assert_rows_match, random_batch

pytestmark = pytest.mark.skipif(find_compiler() is None, reason="no C++ compiler on this machine")

BASE = msgspec.structs.replace(tiny_shape(), intermediate_size=48)
ODD_BASE = msgspec.structs.replace(
    BASE, hidden_size=37, num_heads=3, num_kv_heads=1, head_dim=21, intermediate_size=19, gated_mlp=False
)
"""No dimension is a multiple of any vector register's width."""
MLP_SITES = Sites(
    gate_up=SiteConfig(shared=SharedPart(rank=3, scale=0.5)), down=SiteConfig(shared=SharedPart(rank=2, scale=2.0))
)
Spans = list[SlotSpan]


@pytest.fixture(autouse=True, scope="module")
def native() -> None:
    assert load_native()


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def routed(spans: Spans) -> RowRoute:
    route = build_row_route(spans)
    assert route is not None
    return route


def make_adapter(base: BaseShape, seed: int, sites: Sites, layers: tuple[int, ...], *, bf16: bool) -> Adapter:
    config = adapter_config(base, sites)
    tensors = {name: t.bfloat16().float() for name, t in random_tensors(config, seed, layers).items()}
    return Adapter(config, layers, tensors, bf16=bf16)


def ranks() -> st.SearchStrategy[int]:
    return st.integers(1, 11)


def heads(base: HeadBase) -> st.SearchStrategy[HeadPart]:
    return st.builds(
        HeadPart, rank=ranks(), base=st.just(base), scale=st.sampled_from([1.0, 0.5, -2.0]), bias=st.booleans()
    )


def site(head: st.SearchStrategy[HeadPart | None]) -> st.SearchStrategy[SiteConfig | None]:
    shared = st.none() | st.builds(SharedPart, rank=ranks(), scale=st.sampled_from([1.0, 3.0]))
    present = st.builds(SiteConfig, head=head, shared=shared).filter(lambda found: found != SiteConfig())
    return st.none() | present


SITES = st.builds(
    Sites,
    q=site(st.none() | heads("x")),
    k=site(st.none()),
    v=site(st.none() | heads("k") | heads("x")),
    o=site(st.none() | heads("a")),
    gate_up=site(st.none()),
    down=site(st.none()),
)


SCALES = st.sampled_from([0.0, 0.25, -1.5, 3.0])


@st.composite
def steps(draw: st.DrawFn) -> tuple[BaseShape, dict[int, Adapter], Spans]:
    """Adapters with nothing in common, with ragged groups of rows between rows of the base."""
    base = draw(st.sampled_from([BASE, ODD_BASE]))
    adapters = {}
    for slot in draw(st.sets(st.integers(0, 5), min_size=1)):
        layers = draw(st.sampled_from([(0, 1, 2), (1,), (0, 2)]))
        adapters[slot] = make_adapter(base, slot, draw(SITES), layers, bf16=draw(st.booleans()))
    spans, row = [], 0
    for _ in range(draw(st.integers(1, 6))):
        row += draw(st.integers(0, 2))
        count = draw(st.sampled_from([1, 1, 2, 3, 5, 16, 17, 35]))
        beside = draw(st.just(()) | st.lists(st.builds(SlotUse, st.integers(0, 5), SCALES), max_size=3).map(tuple))
        spans.append(SlotSpan(draw(st.integers(0, 5)), row, count, draw(st.just(1.0) | SCALES), beside))
        row += count
    return base, adapters, spans


@given(steps(), st.sampled_from(Schedule), st.integers(0, 2))
def test_any_mix_of_adapters_adds_what_the_images_readable_form_says(
    step: tuple[BaseShape, dict[int, Adapter], Spans], schedule: Schedule, layer: int
) -> None:
    base, adapters, spans = step
    tables, route = image_tables(base, 6, adapters), routed(spans)
    batch = random_batch(base, spans[-1].rows.stop + 1, seed=0)
    expected = added(ReferenceAdapters(tables, route), batch, layer)
    for name, found in added(NativeAdapters(tables, route, schedule=schedule), batch, layer).items():
        assert torch.allclose(found, expected[name], atol=1e-4, rtol=1e-4), name


@pytest.mark.parametrize("schedule", Schedule)
@pytest.mark.parametrize("layer", [0, 1])
def test_every_row_gets_what_the_method_says_for_its_adapter_on_any_number_of_threads(
    schedule: Schedule, layer: int, threads: int
) -> None:
    adapters = {
        slot: make_adapter(BASE, slot, sites, (0, 1, 2) if slot % 2 else (1,), bf16=slot % 3 == 0)
        for slot, sites in enumerate((*MIXED_SITES, MLP_SITES))
    }
    spans = [
        SlotSpan(0, 1, 1),
        SlotSpan(3, 2, 9),
        SlotSpan(1, 12, 1),
        SlotSpan(5, 14, 3),
        SlotSpan(2, 17, 1),
        SlotSpan(4, 18, 2),
        SlotSpan(3, 20, 40),
    ]  # 0, 11, 13, 60: base
    step = NativeAdapters(image_tables(BASE, 8, adapters), routed(spans), schedule=schedule)
    assert torch.get_num_threads() == threads
    assert_rows_match(step, random_batch(BASE, 61, seed=layer), layer, adapters, spans, BASE)


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("schedule", Schedule)
def test_a_term_of_the_largest_rank_adds_what_the_method_says(schedule: Schedule, bf16: bool, threads: int) -> None:
    sites = Sites(gate_up=SiteConfig(shared=SharedPart(rank=512)), q=SiteConfig(shared=SharedPart(rank=256)))
    adapters = {0: make_adapter(BASE, 0, sites, (0,), bf16=bf16)}
    spans = [SlotSpan(0, 1, 1), SlotSpan(0, 3, 20)]
    step = NativeAdapters(image_tables(BASE, 1, adapters), routed(spans), schedule=schedule)
    assert torch.get_num_threads() == threads
    assert_rows_match(step, random_batch(BASE, 24, seed=3), 0, adapters, spans, BASE)


def paper_step(spans: Spans, *, tokens: int) -> tuple[ImageTables, RowRoute, StepBatch]:
    """Sizes at which different schedules are chosen."""
    base = msgspec.structs.replace(BASE, hidden_size=256, num_heads=8, num_kv_heads=2, head_dim=32, num_layers=1)
    adapters = {slot: make_adapter(base, slot, MIXED_SITES[0], (0,), bf16=slot % 2 == 0) for slot in range(4)}
    return image_tables(base, 4, adapters), routed(spans), random_batch(base, tokens, seed=1)


@pytest.mark.parametrize(
    "spans",
    [
        [SlotSpan(0, 0, 1)],
        [SlotSpan(1, 0, 400)],
        [SlotSpan(slot, slot, 1) for slot in range(4)],
        [SlotSpan(2, 0, 7), SlotSpan(3, 7, 30)],
    ],
)
def test_the_chosen_schedule_adds_the_same_bits_as_one_thread(spans: Spans, threads: int) -> None:
    tables, route, batch = paper_step(spans, tokens=spans[-1].rows.stop)
    expected = added(NativeAdapters(tables, route, schedule=Schedule.ONE_THREAD), batch, 0)
    for name, found in added(NativeAdapters(tables, route), batch, 0).items():
        assert torch.equal(found, expected[name]), (name, threads)


@given(steps(), st.sampled_from(Schedule))
def test_a_row_gets_the_same_bits_alone_and_in_any_batch(
    step: tuple[BaseShape, dict[int, Adapter], Spans], schedule: Schedule
) -> None:
    base, adapters, spans = step
    tables = image_tables(base, 6, adapters)
    last = spans[-1].rows[-1]
    batch = random_batch(base, last + 1, seed=0)
    together = added(NativeAdapters(tables, routed(spans), schedule=schedule), batch, 1)
    span = spans[-1]._replace(first=last, num_rows=1)
    alone = NativeAdapters(tables, routed([span]), schedule=Schedule.ONE_THREAD)
    for name, found in added(alone, batch, 1).items():
        assert torch.equal(found[-1], together[name][-1]), name


def test_the_values_head_part_reads_the_key_before_the_keys_own_part_is_added() -> None:
    sites = Sites(k=SiteConfig(shared=SharedPart(rank=2, scale=50.0)), v=SiteConfig(head=HeadPart(rank=2, base="k")))
    adapters = {0: make_adapter(BASE, 0, sites, (0,), bf16=False)}
    spans = [SlotSpan(0, 0, 40)]
    for schedule in Schedule:
        step = NativeAdapters(image_tables(BASE, 1, adapters), routed(spans), schedule=schedule)
        assert_rows_match(step, random_batch(BASE, 40, seed=0), 0, adapters, spans, BASE)


def test_rows_may_lie_any_distance_apart() -> None:
    adapters = {0: make_adapter(BASE, 0, MIXED_SITES[0], (0,), bf16=False)}
    step = NativeAdapters(image_tables(BASE, 1, adapters), routed([SlotSpan(0, 1, 4)]))
    batch = random_batch(BASE, 5, seed=0)
    expected = added(step, batch, 0)

    def apart(tensor: Tensor) -> Tensor:
        wide = torch.full((2 * tensor.shape[0], tensor.shape[1] + 3), float("nan"))
        wide[::2, 1:-2] = tensor
        return wide[::2, 1:-2]

    qkv, out = apart(batch.qkv), apart(batch.out)
    step.add_qkv(0, apart(batch.x), qkv)
    step.add_o(0, apart(batch.attention), out)
    assert torch.equal(qkv, expected["qkv"])
    assert torch.equal(out, expected["o"])


def one_adapter() -> tuple[ImageTables, StepBatch]:
    adapters = {0: make_adapter(BASE, 0, MIXED_SITES[0], (0, 1, 2), bf16=False)}
    return image_tables(BASE, 1, adapters), random_batch(BASE, 4, seed=0)


def test_projections_of_another_type_shape_or_layout_are_refused() -> None:
    tables, batch = one_adapter()
    step = NativeAdapters(tables, routed([SlotSpan(0, 0, 4)]))
    whole = torch.zeros(4, batch.x.shape[1] + batch.qkv.shape[1])
    cases = {
        "float32": (batch.x.double(), batch.qkv),
        "contiguous rows": (batch.x.t().contiguous().t(), batch.qkv),
        "do not overlap": (batch.x, batch.qkv[:1].expand(4, -1)),
        "columns": (batch.x, batch.qkv[:, :-1]),
        "rows": (batch.x[:3], batch.qkv),
        "overlap": (whole[:, : batch.x.shape[1]], whole[:, batch.x.shape[1] :]),
        r"\[tokens, dim\]": (batch.x[0], batch.qkv),
    }
    for words, (x, qkv) in cases.items():
        with pytest.raises(RuntimeError, match=words):
            step.add_qkv(0, x, qkv)
    with pytest.raises(RuntimeError, match="lies outside its arena"):
        step.add_qkv(0, torch.zeros(4, 4000), batch.qkv)  # the image has no A as wide as these rows


def test_routes_to_rows_and_slots_that_are_not_there_are_refused() -> None:
    tables, batch = one_adapter()
    with pytest.raises(RuntimeError, match="no row 4"):
        NativeAdapters(tables, routed([SlotSpan(0, 3, 2)])).add_qkv(0, batch.x, batch.qkv)
    with pytest.raises(IndexError):
        NativeAdapters(tables, routed([SlotSpan(1, 0, 2)]))
    sound = routed([SlotSpan(0, 0, 2)])
    torn = replace(sound, segment_starts=torch.tensor([0, 3], dtype=torch.int32))
    with pytest.raises(RuntimeError, match="outside the rows"):
        NativeAdapters(tables, torn).add_o(0, batch.attention, batch.out)
    torn = replace(sound, slot_starts=torch.tensor([0, 2], dtype=torch.int32))
    with pytest.raises(RuntimeError, match="outside the slots"):
        NativeAdapters(tables, torn).add_o(0, batch.attention, batch.out)
    torn = replace(sound, scales=torch.ones(2))
    with pytest.raises(RuntimeError, match="scales"):
        NativeAdapters(tables, torn).add_o(0, batch.attention, batch.out)


@pytest.mark.parametrize("place", [(0, 10**12), (1, -7), (2, 10**12)])
def test_an_image_that_points_outside_its_arena_is_refused(place: tuple[int, int]) -> None:
    tables, batch = one_adapter()
    tensor, offset = place
    tables.offsets[0, 0, TERM_INDEX[("q", "head", "x")], tensor] = offset
    step = NativeAdapters(tables, routed([SlotSpan(0, 0, 4)]))
    with pytest.raises(RuntimeError, match="outside its arena"):
        step.add_qkv(0, batch.x, batch.qkv)


def test_a_refused_call_adds_nothing() -> None:
    tables, batch = one_adapter()
    tables.offsets[0, 0, TERM_INDEX[("v", "shared", "x")], 1] = 10**12  # the last term of the call
    before = batch.qkv.clone()
    with pytest.raises(RuntimeError):
        NativeAdapters(tables, routed([SlotSpan(0, 0, 4)])).add_qkv(0, batch.x, batch.qkv)
    assert torch.equal(batch.qkv, before)


def test_rows_of_the_base_and_layers_without_adaptation_are_left_as_they_are() -> None:
    adapters = {0: make_adapter(BASE, 0, MIXED_SITES[0], (1,), bf16=False)}
    step = NativeAdapters(image_tables(BASE, 1, adapters), routed([SlotSpan(0, 2, 1)]))
    batch = random_batch(BASE, 4, seed=0)
    for name, found in added(step, batch, 0).items():
        assert torch.equal(found, {"qkv": batch.qkv, "gate_up": batch.gate_up}.get(name, batch.out)), name
    adapted = added(step, batch, 1)
    for row in (0, 1, 3):
        assert torch.equal(adapted["qkv"][row], batch.qkv[row])
    assert not torch.equal(adapted["qkv"][2], batch.qkv[2])
