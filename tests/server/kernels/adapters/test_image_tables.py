import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from headmix_server.kernels.adapters.image_tables import build_row_route
from headmix_server.kernels.adapters.slot_span import SlotSpan, SlotUse


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3), st.integers(0, 20)), max_size=12))
def test_every_row_is_in_its_own_slots_segment_exactly_once(cuts: list[tuple[int, int, int]]) -> None:
    spans: list[SlotSpan] = []
    owner: dict[int, int] = {}
    row = 0
    for slot, gap, count in cuts:
        spans.append(SlotSpan(slot, row + gap, count))
        owner |= dict.fromkeys(range(row + gap, row + gap + count), slot)
        row += gap + count
    route = build_row_route(list(reversed(spans)))
    if not owner:
        assert route is None
        return
    assert route is not None
    assert {tensor.dtype for tensor in (route.slots, route.slot_starts, route.segment_starts, route.rows)} == {
        torch.int32
    }
    slots, starts, rows = route.slots.tolist(), route.segment_starts.tolist(), route.rows.tolist()
    assert len(set(slots)) == len(slots)
    assert route.slot_starts.tolist() == list(range(len(slots) + 1))
    assert route.scales.tolist() == [1.0] * len(slots)
    assert (starts[0], starts[-1]) == (0, len(rows))
    found: dict[int, int] = {}
    for index, slot in enumerate(slots):
        segment = rows[starts[index] : starts[index + 1]]
        assert segment
        assert segment == sorted(segment)
        found |= dict.fromkeys(segment, slot)
    assert found == owner
    assert len(rows) == len(owner)


def test_rows_with_the_same_adapters_and_scales_are_one_segment() -> None:
    both = (SlotUse(2, 0.5),)
    spans = [SlotSpan(0, 0, 2, 1.0, both), SlotSpan(0, 2, 1), SlotSpan(0, 4, 1, 1.0, both), SlotSpan(0, 5, 1, 2.0)]
    route = build_row_route(spans)
    assert route is not None
    assert (route.slots.tolist(), route.scales.tolist()) == ([0, 0, 2, 0], [1.0, 1.0, 0.5, 2.0])
    assert (route.slot_starts.tolist(), route.segment_starts.tolist()) == ([0, 1, 3, 4], [0, 1, 4, 5])
    assert route.rows.tolist() == [2, 0, 1, 4, 5]


def test_a_row_in_two_spans_is_refused() -> None:
    with pytest.raises(ValueError, match="two spans"):
        build_row_route([SlotSpan(0, 4, 2), SlotSpan(1, 0, 5)])
