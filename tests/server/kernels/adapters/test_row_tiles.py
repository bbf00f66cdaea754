import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from headmix_server.kernels.adapters.row_tiles import most_tiles, tile_decode, tile_rows
from headmix_server.kernels.adapters.slot_span import SlotSpan, SlotUse

SPANS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3), st.integers(0, 20)), max_size=12)


def place(cuts: list[tuple[int, int, int]]) -> list[SlotSpan]:
    """Put (slot, gap, rows) one after another."""
    spans, row = [], 0
    for slot, gap, count in cuts:
        spans.append(SlotSpan(slot, row + gap, count))
        row += gap + count
    return spans


@given(SPANS, st.sampled_from([1, 2, 16]))
def test_every_row_is_in_one_tile_of_its_own_slot_and_no_tile_is_too_high(
    cuts: list[tuple[int, int, int]], height: int
) -> None:
    spans = place(cuts)
    numbers = tile_rows(spans, height)
    tiles = numbers.on_device(torch.tensor(numbers.flat(), dtype=torch.int32))
    owners = {row: span.slot for span in spans for row in span.rows}
    found: dict[int, int] = {}
    for tile in range(tiles.num_tiles):
        rows = tiles.rows[int(tiles.starts[tile]) : int(tiles.starts[tile + 1])].tolist()
        assert 0 < len(rows) <= height
        found |= dict.fromkeys(rows, int(tiles.slots[tile]))
    assert found == owners
    assert len(tiles.rows) == len(owners)


@pytest.mark.parametrize("span", [SlotSpan(0, 0, 1, 0.5), SlotSpan(0, 0, 1, 1.0, (SlotUse(1),))])
def test_a_row_of_several_adapters_or_of_a_scaled_one_is_refused(span: SlotSpan) -> None:
    with pytest.raises(ValueError, match="one adapter, unscaled"):
        tile_rows([span], 16)


@given(SPANS, st.sampled_from([1, 2, 16]))
def test_the_room_a_graph_reserves_holds_every_step_of_its_size(cuts: list[tuple[int, int, int]], height: int) -> None:
    numbers = tile_rows(place(cuts), height)
    rows = len(numbers.rows)
    room = most_tiles(rows, 5, height)
    padded = numbers.pad(room, rows + 3)
    assert (len(padded.slots), len(padded.starts), len(padded.rows)) == (room, room + 1, rows + 3)
    assert padded.starts[: len(numbers.starts)] == numbers.starts
    assert set(padded.starts[len(numbers.starts) :]) <= {rows}  # tiles without rows


def test_more_than_there_is_room_for_is_refused() -> None:
    with pytest.raises(ValueError, match="room for 1"):
        tile_rows([SlotSpan(0, 0, 1), SlotSpan(1, 1, 1)], 16).pad(1, 2)


@given(st.lists(st.one_of(st.none(), st.integers(0, 5)), max_size=40), st.integers(1, 8))
def test_a_step_that_only_decodes_is_cut_as_any_other(slots: list[int | None], height: int) -> None:
    spans = [SlotSpan(slot, row, 1) for row, slot in enumerate(slots) if slot is not None]
    assert tile_decode(slots, height) == tile_rows(spans, height)


def test_a_row_in_two_spans_is_refused() -> None:
    with pytest.raises(ValueError, match="two spans"):
        tile_rows([SlotSpan(0, 4, 2), SlotSpan(1, 0, 5)], 16)
