import pytest
from hypothesis import given
from hypothesis import strategies as st

from headmix_server.device.adapters.run_allocator import RunAllocator


@given(st.integers(0, 2), st.lists(st.tuples(st.booleans(), st.integers(1, 9))))
def test_runs_never_overlap_and_every_unit_comes_back(reserved: int, steps: list[tuple[bool, int]]) -> None:
    allocator = RunAllocator(reserved)
    held: list[tuple[int, int]] = []
    for take, size in steps:
        if take:
            first = allocator.allocate(size)
            if first is None:
                allocator.grow(max(1, size - allocator.free_at_end))
                first = allocator.allocate(size)
            assert first is not None
            held.append((first, size))
        elif held:
            allocator.release(*held.pop(size % len(held)))
        units = [unit for first, length in held for unit in range(first, first + length)]
        assert len(units) == len(set(units))
        assert all(reserved <= unit < allocator.capacity for unit in units)
        assert not set(units) & set(range(allocator.capacity - allocator.free_at_end, allocator.capacity))
        assert allocator.num_free + len(units) + reserved == allocator.capacity
    for run in held:
        allocator.release(*run)
    whole = allocator.capacity - reserved
    assert whole == 0 or allocator.allocate(whole) == reserved


@pytest.mark.parametrize("units", [1, 5])
def test_an_empty_allocator_has_nothing_to_hand_out(units: int) -> None:
    allocator = RunAllocator()
    assert (allocator.allocate(units), allocator.free_at_end) == (None, 0)
