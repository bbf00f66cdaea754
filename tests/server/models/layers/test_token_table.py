"""A table is kept in 16 bits only if that loses nothing."""

import pytest
import torch

from headmix_server.models.layers.token_table import narrow_exactly


@pytest.mark.parametrize("stored", [torch.bfloat16, torch.float16])
def test_rows_published_in_16_bits_take_16_bits_and_come_back_as_they_were(stored: torch.dtype) -> None:
    rows = torch.randn(64, 8).to(stored).float()
    table = narrow_exactly(rows)
    assert table.nbytes == rows.nbytes // 2
    tokens = torch.tensor([3, 63, 3])
    assert table(tokens).dtype == torch.float32
    assert torch.equal(table(tokens), rows[tokens])


def test_rows_that_need_32_bits_keep_them_and_a_look_up_is_a_copy() -> None:
    rows = torch.randn(64, 8)
    table = narrow_exactly(rows)
    assert table.nbytes == rows.nbytes
    found = table(torch.tensor([5]))
    assert torch.equal(found[0], rows[5])
    found.zero_()
    assert rows[5].abs().sum() > 0
