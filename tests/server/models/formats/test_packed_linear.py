"""Packed products equal the plain ones, row by row."""

import pytest
import torch

from headmix_server.models.formats.linear import PlainLinear
from headmix_server.models.formats.packed_linear import pack_linear

SHAPES = ((48, 32), (512, 96), (33, 7), (1, 1))


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("outputs", "inputs"), SHAPES)
def test_packed_products_are_the_plain_ones_at_every_number_of_rows(outputs: int, inputs: int, *, bias: bool) -> None:
    torch.manual_seed(0)
    weight = torch.randn(outputs, inputs)
    offsets = torch.randn(outputs) if bias else None
    packed, plain = pack_linear(weight, offsets), PlainLinear(weight, offsets)
    for rows in (0, 1, 5, 33, 200):
        x = torch.randn(rows, inputs)
        torch.testing.assert_close(packed(x), plain(x), atol=1e-4, rtol=1e-4)


def test_the_weight_that_was_packed_is_not_looked_at_again() -> None:
    weight, x = torch.randn(48, 32), torch.randn(5, 32)
    packed = pack_linear(weight)
    before = packed(x)
    weight.zero_()
    assert torch.equal(packed(x), before)


def test_results_are_new_and_may_be_added_to() -> None:
    packed, x = pack_linear(torch.randn(48, 32)), torch.randn(5, 32)
    first = packed(x)
    kept = first.clone()
    packed(x).add_(1)
    assert torch.equal(first, kept)
