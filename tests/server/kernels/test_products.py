"""A row of a product depends only on that row, whatever the other rows contain."""

import math

import pytest
import torch

from headmix_server.kernels.products import missing_depth, product
from headmix_server.models.formats.linear import plain_linear

CPU = torch.device("cpu")
DEPTHS = (1, 2, 3, 5, 12, 27, 31, 32, 33, 34, 36, 48, 50, 63, 64, 72, 80, 100, 304, 577)


@pytest.mark.parametrize("poison", [math.nan, math.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("depth", DEPTHS)
def test_a_broken_row_reaches_no_other_row(depth: int, dtype: torch.dtype, poison: float) -> None:
    drawn = torch.Generator().manual_seed(depth)
    for rows, columns in ((2, 8), (7, 33), (30, 32), (64, 96)):
        a = torch.randn(3, rows, depth, generator=drawn).to(dtype)
        b = torch.randn(3, depth, columns, generator=drawn).to(dtype)
        broken = torch.rand(3, rows, generator=drawn) < 0.5
        with_broken = a.masked_fill(broken[..., None], poison)
        assert torch.equal(product(with_broken, b)[~broken], product(a, b)[~broken])
        linear = plain_linear(b[0].mT.contiguous())
        assert torch.equal(
            linear(with_broken.flatten(0, 1))[~broken.flatten()], linear(a.flatten(0, 1))[~broken.flatten()]
        )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("depth", DEPTHS)
def test_the_zeros_that_keep_rows_apart_change_nothing(depth: int, dtype: torch.dtype) -> None:
    drawn = torch.Generator().manual_seed(depth)
    a, b = torch.randn(2, 5, depth, generator=drawn).to(dtype), torch.randn(2, depth, 7, generator=drawn).to(dtype)
    exact = (a.double() @ b.double()).to(dtype)
    torch.testing.assert_close(product(a, b), exact, rtol=2e-2, atol=2e-2 * math.sqrt(depth))
    bias = torch.randn(7, generator=drawn).to(dtype)
    linear = plain_linear(b[0].mT.contiguous(), bias)
    torch.testing.assert_close(linear(a[0]), exact[0] + bias, rtol=2e-2, atol=2e-2 * math.sqrt(depth))


def test_only_bfloat16_on_a_cpu_is_made_longer() -> None:
    assert missing_depth(33, torch.float32, CPU) == 0
    assert missing_depth(33, torch.bfloat16, torch.device("cuda")) == 0
    assert {depth: missing_depth(depth, torch.bfloat16, CPU) for depth in (2, 3, 32, 33, 72, 576)} == {
        2: 0,
        3: 1,
        32: 0,
        33: 31,
        72: 24,
        576: 0,
    }
