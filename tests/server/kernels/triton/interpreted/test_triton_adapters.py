"""The Triton kernels match the method's reference, row by row."""

import math
from dataclasses import replace

import msgspec
import pytest
import torch

from harness.adapters.artifacts import adapter_config, random_tensors
from harness.adapters.mixed_sites import MIXED_SITES
from harness.bases.tiny_model import tiny_shape
from headmix_adapters.config import HeadPart, SharedPart, SiteConfig, Sites
from headmix_adapters.sites import iter_terms
from headmix_server.kernels.adapters.added_tokens import AddedInputs
from headmix_server.kernels.adapters.image_tables import ImageTables
from headmix_server.kernels.adapters.passes import AdaptersInPasses, in_passes, tables_of, uses_of
from headmix_server.kernels.adapters.row_tiles import tile_rows
from headmix_server.kernels.adapters.slot_span import SlotSpan, SlotUse
from headmix_server.kernels.triton import adapters as kernels
from headmix_server.kernels.triton.adapters import TritonAdapters
from headmix_server.kernels.triton.needs import Launches, z_width
from tests.support.device.images import Adapter, image_tables
from tests.support.device.step_adapters import StepBatch, added, assert_rows_match, expected, random_batch

BASE = msgspec.structs.replace(tiny_shape(), intermediate_size=48, hidden_size=40)
LARGE = Sites(  # more rank rows than a block holds, in every kernel
    q=SiteConfig(head=HeadPart(rank=5, base="x"), shared=SharedPart(rank=17)),
    v=SiteConfig(head=HeadPart(rank=18, base="k"), shared=SharedPart(rank=3)),
    o=SiteConfig(head=HeadPart(rank=17, base="a"), shared=SharedPart(rank=20)),
    gate_up=SiteConfig(shared=SharedPart(rank=3, scale=0.5)),
    down=SiteConfig(shared=SharedPart(rank=19, scale=2.0)),
)
EVERYTHING = Launches.every()
SPANS = [
    SlotSpan(0, 1, 1),
    SlotSpan(3, 2, 18),
    SlotSpan(1, 20, 1),
    SlotSpan(5, 22, 3),
    SlotSpan(2, 25, 1),
    SlotSpan(4, 26, 2),
    SlotSpan(3, 28, 1),
]  # rows 0, 21, 29: base


@pytest.fixture(autouse=True)
def _few_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """So few programs that each program of `shrink` has to process several blocks in turn."""
    monkeypatch.setattr(kernels, "PROGRAMS", 2)


def make_adapter(slot: int, sites: Sites, layers: tuple[int, ...], *, bf16: bool) -> Adapter:
    config = adapter_config(BASE, sites)
    tensors = {name: t.bfloat16().float() for name, t in random_tensors(config, slot, layers).items()}
    return Adapter(config, layers, tensors, bf16=bf16)


def mixed_adapters(*, bf16: bool) -> dict[int, Adapter]:
    """Return adapters with nothing in common, some of which do not adapt layer 0."""
    every = (*MIXED_SITES, LARGE)
    return {
        slot: make_adapter(slot, sites, (0, 1, 2) if slot % 2 else (1,), bf16=bf16) for slot, sites in enumerate(every)
    }


def make_step(
    tables: ImageTables,
    adapters: dict[int, Adapter],
    *,
    spans: list[SlotSpan] = SPANS,
    height: int = 16,
    empty_tiles: int = 0,
) -> TritonAdapters:
    numbers = tile_rows(spans, height)
    numbers = numbers.pad(len(numbers.slots) + empty_tiles, len(numbers.rows) + empty_tiles)
    tiles = numbers.on_device(torch.tensor(numbers.flat(), dtype=torch.int32))
    terms = [iter_terms(adapter.config.sites) for adapter in adapters.values()]
    ranks = [{(t.term.site, t.term.part, t.term.input): t.rank for t in each} for each in terms]
    width = max(z_width(BASE, each) for each in ranks)
    z = torch.full((len(numbers.rows), width), float("nan"))  # reading unwritten memory shows up
    return TritonAdapters(tables, tiles, z, EVERYTHING)


@pytest.mark.parametrize(("layer", "height"), [(0, 16), (1, 16), (1, 4)])
def test_every_row_gets_what_the_reference_says_for_its_adapter(layer: int, height: int) -> None:
    adapters = mixed_adapters(bf16=False)
    step = make_step(image_tables(BASE, 8, adapters), adapters, height=height)
    assert_rows_match(step, random_batch(BASE, tokens=30, seed=layer), layer, adapters, SPANS, BASE)


def test_a_term_of_the_largest_rank_adds_what_the_reference_says() -> None:
    adapters = {0: make_adapter(0, Sites(gate_up=SiteConfig(shared=SharedPart(rank=512))), (0,), bf16=False)}
    spans = [SlotSpan(0, 1, 1), SlotSpan(0, 3, 2)]
    step = make_step(image_tables(BASE, 1, adapters), adapters, spans=spans)
    assert_rows_match(step, random_batch(BASE, tokens=6, seed=3), 0, adapters, spans, BASE)


def test_passes_add_up_the_adapters_of_a_row_and_values_read_the_key_before_any_adds_to_it() -> None:
    adapters = mixed_adapters(bf16=False)
    spans = [
        SlotSpan(0, 1, 1, 0.5, (SlotUse(2, 3.0), SlotUse(5, -1.0))),
        SlotSpan(2, 2, 18, 1.0, (SlotUse(0, 2.0),)),
        SlotSpan(5, 20, 1),
        SlotSpan(3, 22, 3, 0.25),
    ]
    uses = uses_of(spans)
    tables = tables_of(image_tables(BASE, 8, adapters), uses)
    passes = in_passes(spans, uses)
    assert [sum(span.num_rows for span in rows) for rows in passes] == [23, 19, 1]
    step = AdaptersInPasses(
        [make_step(tables.from_key, adapters, spans=rows) for rows in passes],
        [make_step(tables.rest, adapters, spans=rows) for rows in passes],
    )
    assert_rows_match(step, random_batch(BASE, tokens=26, seed=4), 1, adapters, spans, BASE)


def test_bfloat16_is_rounded_once_after_float32_sums() -> None:
    adapters = mixed_adapters(bf16=True)
    drawn = random_batch(BASE, tokens=30, seed=3)
    batch = StepBatch(*(getattr(drawn, name).bfloat16() for name in StepBatch.__slots__))
    exact = StepBatch(*(getattr(batch, name).float() for name in StepBatch.__slots__))
    found = added(make_step(image_tables(BASE, 8, adapters), adapters), batch, 1)
    for name, wanted in expected(exact, 1, BASE, adapters, SPANS).items():
        # a unit in the last place of bfloat16: the GPU rounds to nearest, the interpreter truncates
        assert torch.allclose(found[name].float(), wanted, rtol=2**-7, atol=2e-5), name


def test_a_slot_with_nothing_in_it_and_tiles_without_rows_add_nothing() -> None:
    adapters = {1: make_adapter(1, MIXED_SITES[0], (0, 1, 2), bf16=False)}
    spans = [SlotSpan(0, 0, 2), SlotSpan(1, 2, 1)]
    step = make_step(image_tables(BASE, 2, adapters), adapters, spans=spans, empty_tiles=2)
    assert_rows_match(step, random_batch(BASE, tokens=4, seed=0), 0, adapters, spans, BASE)


def test_kernels_of_sites_no_adapter_has_are_not_launched() -> None:
    adapters = {0: make_adapter(0, MIXED_SITES[0], (0, 1, 2), bf16=False)}
    tables = image_tables(BASE, 1, adapters)
    tiles = make_step(tables, adapters, spans=[SlotSpan(0, 0, 2)])
    none = TritonAdapters(tables, tiles._tiles, tiles._z, Launches.of([]))
    batch = random_batch(BASE, tokens=2, seed=0)
    for name, found in added(none, batch, 0).items():
        assert torch.equal(found, {"qkv": batch.qkv, "gate_up": batch.gate_up}.get(name, batch.out)), name


def test_rows_with_gaps_between_them_are_refused() -> None:
    adapters = {0: make_adapter(0, MIXED_SITES[0], (0, 1, 2), bf16=False)}
    step = make_step(image_tables(BASE, 1, adapters), adapters, spans=[SlotSpan(0, 0, 2)])
    batch = random_batch(BASE, tokens=2, seed=0)
    with pytest.raises(ValueError, match="not contiguous"):
        step.add_o(0, batch.attention, torch.zeros(2, 80)[:, :40])


def test_embeddings_of_added_tokens_are_put_in() -> None:
    adapters = {0: make_adapter(0, MIXED_SITES[0], (0, 1, 2), bf16=False)}
    tables = image_tables(BASE, 1, adapters)
    step = make_step(tables, adapters, spans=[SlotSpan(0, 0, 2)])
    rows = torch.randn(1, BASE.hidden_size)
    adding = TritonAdapters(tables, step._tiles, step._z, EVERYTHING, AddedInputs(torch.tensor([1]), rows))
    embeddings = torch.zeros(2, BASE.hidden_size)
    adding.replace_embeddings(embeddings)
    step.replace_embeddings(embeddings)
    assert embeddings.equal(torch.cat([torch.zeros(1, BASE.hidden_size), rows]))


def surrounded(tables: ImageTables, poison: float) -> ImageTables:
    """Return the tables for an arena whose space before, between and after the images is filled with NaN."""
    arena = tables.bf16 if tables.bf16.numel() else tables.f32
    around = arena.new_full((64,), poison)
    wider = torch.cat([around, torch.where(arena.isnan(), poison, arena), around])
    offsets = torch.where(tables.offsets < 0, tables.offsets, tables.offsets + len(around))
    if tables.bf16.numel():
        return replace(tables, offsets=offsets, bf16=wider)
    return replace(tables, offsets=offsets, f32=wider)


@pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")  # from the interpreter's products
@pytest.mark.parametrize(("poison", "bf16"), [(math.nan, True), (math.inf, False)])
def test_nothing_that_belongs_to_nobody_or_to_others_gets_into_a_row(poison: float, bf16: bool) -> None:
    adapters = mixed_adapters(bf16=bf16)
    drawn = random_batch(BASE, tokens=30, seed=5)
    sound = StepBatch(
        *(getattr(drawn, name).to(torch.bfloat16 if bf16 else torch.float32) for name in StepBatch.__slots__)
    )
    tables = image_tables(BASE, 8, adapters)
    expected = added(make_step(tables, adapters), sound, 1)
    around = surrounded(tables, poison)
    for first, count in ((2, 18), (22, 3), (0, 1)):  # two adapters' rows, then a row of the base
        broken = StepBatch(*(getattr(sound, name).clone() for name in StepBatch.__slots__))
        for name in StepBatch.__slots__:
            getattr(broken, name)[first : first + count] = poison
        others = torch.ones(30, dtype=torch.bool)
        others[first : first + count] = False
        step = make_step(around, adapters)
        step._z.fill_(poison)
        for name, found in added(step, broken, 1).items():
            assert torch.equal(found[others], expected[name][others]), (name, first)
