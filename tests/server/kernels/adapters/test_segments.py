import torch
from hypothesis import given
from hypothesis import strategies as st

from headmix_server.kernels.adapters.segments import MAX_SEGMENT_WIDTH, build_route
from headmix_server.kernels.adapters.slot_span import SlotSpan, SlotUse


@st.composite
def spans(draw: st.DrawFn) -> tuple[list[SlotSpan], int]:
    """Spans over a batch in which some rows belong to the base alone."""
    found, row = [], 0
    for _ in range(draw(st.integers(1, 8))):
        row += draw(st.integers(0, 3))
        count = draw(st.integers(1, 70))
        found.append(SlotSpan(draw(st.integers(0, 4)), row, count))
        row += count
    return found, row + draw(st.integers(0, 3))


@given(spans())
def test_every_routed_row_gets_its_own_slot_exactly_once_and_base_rows_get_none(
    case: tuple[list[SlotSpan], int],
) -> None:
    found, tokens = case
    route = build_route(found)
    assert route is not None
    slots = route.slots.float()[:, None, None].expand(-1, route.width, 1) + 1
    out = torch.zeros(tokens, 1)
    route.add(slots, out)
    expected = torch.zeros(tokens, 1)
    for span in found:
        expected[span.first : span.rows.stop] = span.slot + 1
    assert torch.equal(out, expected)
    assert route.width <= MAX_SEGMENT_WIDTH


@given(spans())
def test_take_brings_each_place_the_row_that_add_writes_back_to(case: tuple[list[SlotSpan], int]) -> None:
    found, tokens = case
    route = build_route(found)
    assert route is not None
    inputs = torch.arange(1, tokens + 1, dtype=torch.float32)[:, None]
    out = torch.zeros(tokens, 1)
    route.add(route.take(inputs), out)
    routed = torch.zeros(tokens, dtype=torch.bool)
    for span in found:
        routed[span.first : span.rows.stop] = True
    assert torch.equal(out, torch.where(routed[:, None], inputs, torch.zeros(())))


def test_a_row_with_several_adapters_gets_what_each_adds_times_its_scale() -> None:
    route = build_route([SlotSpan(1, 0, 3, 0.5, (SlotUse(2, -1.0),)), SlotSpan(2, 3, 2), SlotSpan(1, 5, 1, 0.5)])
    assert route is not None
    assert route.num_segments == 3
    out = torch.zeros(7, 1)
    route.add((10.0 ** route.slots.float())[:, None, None].expand(-1, route.width, 1), out)
    assert out[:, 0].tolist() == [-95, -95, -95, 100, 100, 5, 0]


def test_a_batch_of_the_base_alone_has_no_route() -> None:
    assert build_route([]) is None
