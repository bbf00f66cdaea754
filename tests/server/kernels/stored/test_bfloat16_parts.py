"""Weights in bfloat16 times inputs cut in three bfloat16 parts: as exact as float32's own product."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from headmix_server.kernels.native.loading import load_native
from headmix_server.kernels.stored.bfloat16 import Unit, available_units
from headmix_server.kernels.stored.pack import pack
from headmix_server.kernels.stored.products import multiply

pytestmark = pytest.mark.skipif(
    not load_native() or Unit.AMX not in available_units(), reason="this processor multiplies them in float32"
)
ROWS = (1, 2, 15, 16, 17, 32, 33, 130)
NONE = torch.empty(0)


def product(x: Tensor, weight: Tensor) -> Tensor:
    out = torch.full((x.shape[0], weight.shape[0]), torch.nan)
    multiply(x, pack(weight.bfloat16(), "BF16"), NONE, out)
    return out


def draw(outputs: int, inputs: int) -> Tensor:
    return torch.randn(outputs, inputs, generator=torch.Generator().manual_seed(2)).bfloat16().float()


def test_every_bit_of_an_input_counts() -> None:
    numbers = torch.randint(0, 2**31 - 1, (40, 32), dtype=torch.int32, generator=torch.Generator().manual_seed(1))
    x = (numbers & 0x3FFFFFFF | 0x20000000).view(torch.float32)  # from 2^-63 to 2: every mantissa
    x[::2] *= -1
    for row in range(40):
        assert torch.equal(product(x[row].diag(), torch.eye(32)), x[row].diag())


@pytest.mark.parametrize("outlier", [1, 1000])
@pytest.mark.parametrize("inputs", [576, 1536])
def test_results_are_as_near_to_the_exact_ones_as_float32s_own_product_gives(inputs: int, outlier: float) -> None:
    weight, x = draw(256, inputs), torch.randn(64, inputs, generator=torch.Generator().manual_seed(1))
    x[:, ::311] *= outlier
    exact = x.double() @ weight.double().t()
    error, usual = (float((found - exact).norm()) for found in (product(x, weight), functional.linear(x, weight)))
    assert error <= usual


@pytest.mark.parametrize("rows", ROWS)
def test_an_input_that_is_not_finite_spoils_its_own_row_and_no_other(rows: int) -> None:
    weight, x = draw(37, 96), torch.randn(rows, 96)
    whole = product(x, weight)
    for value in (torch.nan, torch.inf, -torch.inf):
        spoiled = x.clone()
        spoiled[rows - 1, 40] = value
        found = product(spoiled, weight)
        assert found[-1].isnan().all()
        assert torch.equal(found[:-1], whole[:-1])
