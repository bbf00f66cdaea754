import pytest
from hypothesis import given
from hypothesis import strategies as st

from headmix_server.device.arena import RowAllocator


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 9))))
def test_runs_never_overlap_and_every_row_comes_back(steps: list[tuple[bool, int]]) -> None:
    allocator = RowAllocator()
    held: list[tuple[int, int]] = []
    for take, size in steps:
        if take:
            first = allocator.allocate(size)
            if first is None:
                allocator.grow(size + 3)
                first = allocator.allocate(size)
            assert first is not None
            held.append((first, size))
        elif held:
            allocator.release(*held.pop(size % len(held)))
        rows = [row for first, length in held for row in range(first, first + length)]
        assert len(rows) == len(set(rows))
        assert 0 not in rows
        assert allocator.num_free + len(rows) + 1 == allocator.capacity
    for run in held:
        allocator.release(*run)
    whole = allocator.capacity - 1
    assert whole == 0 or allocator.allocate(whole) == 1


@pytest.mark.parametrize("rows", [1, 5])
def test_an_empty_allocator_has_nothing_to_hand_out(rows: int) -> None:
    assert RowAllocator().allocate(rows) is None
