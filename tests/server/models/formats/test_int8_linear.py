"""8-bit products are close to the exact ones, and no row depends on its neighbours."""

import pytest
import torch

from headmix_server.kernels.quantize import RowQuantizer, best_quantizer, quantize_rows
from headmix_server.models.formats.int8_linear import int8_linear, int8_table
from headmix_server.models.formats.linear import PlainLinear

QUANTIZERS = {"torch": quantize_rows, "best": best_quantizer()}


@pytest.mark.parametrize("quantize", QUANTIZERS.values(), ids=QUANTIZERS)
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("inputs", [576, 100, 64, 7])
def test_int8_products_err_by_a_hundredth(inputs: int, quantize: RowQuantizer, *, bias: bool) -> None:
    torch.manual_seed(0)
    weight, offsets = torch.randn(48, inputs), torch.randn(48) if bias else None
    x = torch.randn(9, inputs)
    exact = PlainLinear(weight, offsets)(x)
    assert (int8_linear(weight, offsets, quantize)(x) - exact).norm() < 0.012 * exact.norm()


def test_an_outlier_costs_the_other_columns_little() -> None:
    """The reason for the rotation: without it, one column 100 times larger leaves the others seven steps each."""
    torch.manual_seed(0)
    weight, x = torch.randn(48, 512), torch.randn(9, 512)
    x[:, 77] = 100
    weight[:, 77] *= 0.01
    exact = PlainLinear(weight)(x)
    assert (int8_linear(weight, None, quantize_rows)(x) - exact).norm() < 0.06 * exact.norm()


@pytest.mark.parametrize("quantize", QUANTIZERS.values(), ids=QUANTIZERS)
def test_a_row_is_the_same_alone_and_beside_any_others(quantize: RowQuantizer) -> None:
    torch.manual_seed(0)
    linear = int8_linear(torch.randn(96, 72), torch.randn(96), quantize)
    x = torch.randn(33, 72) * torch.logspace(-3, 3, 33)[:, None]  # the largest row is a million times the smallest
    together = linear(x)
    for row in range(33):
        assert torch.equal(linear(x[row : row + 1])[0], together[row])
    assert torch.equal(linear(x.flip(0)).flip(0), together)


def test_rows_of_zeros_and_no_rows_at_all_are_products_too() -> None:
    bias = torch.randn(16)
    linear = int8_linear(torch.randn(16, 8), bias, best_quantizer())
    assert torch.equal(linear(torch.zeros(2, 8)), bias.expand(2, 16))
    assert linear(torch.zeros(0, 8)).shape == (0, 16)


def test_the_weight_that_was_quantised_is_not_looked_at_again() -> None:
    weight, x = torch.randn(16, 8), torch.randn(3, 8)
    linear, table = int8_linear(weight, None, quantize_rows), int8_table(weight)
    product, rows = linear(x), table(torch.arange(16))
    weight.zero_()
    assert torch.equal(linear(x), product)
    assert torch.equal(table(torch.arange(16)), rows)


def test_a_table_errs_by_half_a_step_of_each_row() -> None:
    rows = torch.randn(32, 24) * torch.logspace(-2, 2, 32)[:, None]
    table = int8_table(rows)
    steps = rows.abs().amax(1, keepdim=True) / 127
    assert ((table(torch.arange(32)) - rows).abs() <= steps * 0.5001).all()
    assert table.nbytes == 32 * (24 + 4)
