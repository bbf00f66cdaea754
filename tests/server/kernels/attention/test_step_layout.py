import pytest
import torch

from headmix_server.kernels.attention.step_layout import lay_out, tabulate_blocks
from tests.support.device.spans import Chunk

CHUNKS = [Chunk(0, 3, (5, 2)), Chunk(6, 1, (1, 0, 7, 3)), Chunk(2, 2, (4,))]


def test_rows_follow_one_another_and_know_their_positions() -> None:
    layout = lay_out(CHUNKS)
    assert layout.rows.tolist() == [0, 3, 4, 6]
    assert layout.positions().tolist() == [0, 1, 2, 6, 2, 3]


def test_a_position_lies_in_its_own_sequences_block() -> None:
    table = tabulate_blocks(CHUNKS, block_size=4, num_blocks=8)
    assert table.places(0, 6).tolist() == [20, 21, 22, 23, 8, 9]
    assert table.places(1, 7).tolist() == [4, 5, 6, 7, 0, 1, 2]
    assert table.places(2, 4).tolist() == [16, 17, 18, 19]


def test_an_empty_step_has_a_layout() -> None:
    assert lay_out([]).positions().tolist() == []
    assert tabulate_blocks([], 4, 8).blocks.shape == (0, 0)


@pytest.mark.parametrize("chunk", [Chunk(0, 0, (1,)), Chunk(-1, 2, (1,))])
def test_a_span_without_rows_or_before_the_beginning_is_refused(chunk: Chunk) -> None:
    with pytest.raises(ValueError, match="spans of"):
        lay_out([CHUNKS[0], chunk])


@pytest.mark.parametrize(
    ("chunk", "reason"),
    [
        (Chunk(0, 5, (1,)), "position 4 is not in 1 blocks of 4"),
        (Chunk(8, 1, (1, 2)), "position 8 is not in 2 blocks of 4"),
        (Chunk(0, 1, (8,)), "to 8 of a cache of 8"),
        (Chunk(0, 1, (-1,)), "blocks -1"),
    ],
)
def test_rows_outside_their_blocks_and_blocks_outside_the_cache_are_refused(chunk: Chunk, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        tabulate_blocks([CHUNKS[0], chunk], block_size=4, num_blocks=8)


def test_places_are_int32_all_through() -> None:
    layout, table = lay_out(CHUNKS), tabulate_blocks(CHUNKS, 4, 8)
    assert {layout.rows.dtype, layout.starts.dtype, table.blocks.dtype} == {torch.int32}
