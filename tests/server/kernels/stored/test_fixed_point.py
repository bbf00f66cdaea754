"""Inputs in fixed point lose no more than float32's own product, and a block's sum with whole-number codes is exact."""

import gguf
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from headmix_server.kernels.native.loading import load_native
from headmix_server.kernels.stored.fixed_point import LARGEST, TOO_LARGE, cut, fix, reference
from headmix_server.kernels.stored.pack import pack
from headmix_server.kernels.stored.products import CodeUnit, code_unit, multiply
from headmix_server.kernels.stored.unpack import unpack
from headmix_server.kernels.stored.weights import WIDTH, StoredWeights

NONE = torch.empty(0)
KINDS = ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0")
ROWS = (1, 2, 3, 4, 5, 8, 9, 16, 17, 24, 25, 40)
"""Numbers of rows around those where another instruction, or another tile, takes over."""


@pytest.fixture(scope="module")
def fixed_point() -> None:
    if not load_native() or code_unit() == CodeUnit.FLOAT32:
        pytest.skip("this processor multiplies codes as floats")


def draw(kind: str, outputs: int, inputs: int) -> StoredWeights:
    values = np.random.default_rng(outputs).normal(0, 0.3, (outputs, inputs)).astype(np.float32)
    return pack(torch.from_numpy(gguf.quantize(values, gguf.GGMLQuantizationType[kind])), kind)


def whole_numbers(kind: str, outputs: int) -> StoredWeights:
    """Return a block per output whose weights are its codes: every scale is 1."""
    size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]][1]
    raw = torch.randint(0, 256, (outputs, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))
    raw[:, :2] = torch.ones(outputs, 1, dtype=torch.float16).view(torch.uint8)
    return pack(raw, kind)


def product(x: Tensor, weights: StoredWeights) -> Tensor:
    out = torch.full((x.shape[0], weights.outputs), torch.nan)
    multiply(x, weights, NONE, out)
    return out


def wide(rows: int, inputs: int) -> Tensor:
    """Return numbers of all signs whose magnitudes lie far apart, some blocks of zeros, and some at a power of two."""
    generator = torch.Generator().manual_seed(rows)
    x = torch.randn(rows, inputs, generator=generator)
    x = x * torch.exp2(torch.randint(-30, 30, (rows, 1), generator=generator).float())
    x = x * torch.exp2(torch.randint(-12, 1, (rows, inputs), generator=generator).float())
    x[::3, :WIDTH] = 0
    x[1::3, 0] = 2.0**31 * (1 - 2.0**-24)  # rounded, it would be one above the largest number
    x[2::3, 1] = -(2.0**31)
    return x


def test_fixed_numbers_are_whole_within_a_block_and_near_the_inputs() -> None:
    x = wide(40, 100)
    fixed = fix(x)
    for first in range(0, 100, WIDTH):
        block, near = x[:, first : first + WIDTH].double(), fixed[:, first : first + WIDTH].double()
        most = block.abs().amax(dim=1, keepdim=True)
        assert ((block - near).abs() <= most * 2.0**-23).all()
        unit = torch.exp2(torch.frexp(near.abs().amax(dim=1, keepdim=True)).exponent.double() - 23)
        numbers = near / unit
        assert torch.equal(numbers, numbers.round())
        assert numbers.abs().max() <= LARGEST


def test_fixed_numbers_of_a_block_that_is_not_finite_are_nan() -> None:
    x = torch.zeros(3, 2 * WIDTH)
    x[0, 3], x[1, WIDTH + 1], x[2, 5] = torch.nan, -torch.inf, TOO_LARGE
    assert fix(x).isnan().view(3, 2, WIDTH).all(dim=2).tolist() == [[True, False], [False, True], [True, False]]


@pytest.mark.usefixtures("fixed_point")
@pytest.mark.parametrize("kind", ["Q4_0", "Q5_0", "Q8_0"])
def test_a_blocks_sums_are_exact_until_they_are_joined_by_every_instruction(kind: str) -> None:
    weights = whole_numbers(kind, 37)
    for rows in ROWS:
        x = wide(rows, WIDTH)
        high, lower = (part.double() @ unpack(weights).double().t() for part in cut(x))
        assert torch.equal(product(x, weights), (lower.float() + high).float()), rows


@pytest.mark.usefixtures("fixed_point")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("inputs", [32, 96, 576, 1536])
def test_products_are_the_references_but_for_the_sum_of_blocks(kind: str, inputs: int) -> None:
    weights = draw(kind, 50, inputs)
    largest = unpack(weights).abs().amax(dim=1)
    for rows in ROWS:
        x = wide(rows, inputs)
        terms = torch.outer(x.abs().sum(dim=1), largest)
        assert ((product(x, weights) - reference(x, weights)).abs() <= 1e-6 * terms).all(), rows


@pytest.mark.usefixtures("fixed_point")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("outlier", [1, 30, 1000])
def test_results_are_as_near_to_the_exact_ones_as_float32s_own_product_gives(kind: str, outlier: float) -> None:
    """Also where a few inputs are far larger than the others, as in the MLP of a language model."""
    weights = draw(kind, 256, 1536)
    x = torch.randn(64, 1536, generator=torch.Generator().manual_seed(1))
    x[:, ::311] *= outlier
    weight = unpack(weights)
    exact = x.double() @ weight.double().t()
    error, usual = (float((found - exact).norm()) for found in (product(x, weights), functional.linear(x, weight)))
    assert error <= usual


@pytest.mark.usefixtures("fixed_point")
def test_inputs_at_the_ends_of_float32_are_multiplied() -> None:
    weights = whole_numbers("Q8_0", 16)
    for size in (0.0, 1e-45, 1e-38, 1e-30, 1e30, 5e33):
        x = torch.full((2, WIDTH), size)
        expected = x.double() @ unpack(weights).double().t()
        found = product(x, weights).double()
        assert ((found - expected).abs() <= 1e-6 * expected.abs() + 2.0**-115).all(), size


@pytest.mark.usefixtures("fixed_point")
@pytest.mark.parametrize("rows", [1, 4, 5, 40])
def test_an_input_that_is_not_finite_spoils_its_own_row_and_no_other(rows: int) -> None:
    weights, x = draw("Q4_1", 37, 96), torch.randn(rows, 96)
    whole = product(x, weights)
    for value in (torch.nan, torch.inf, -torch.inf):
        spoiled = x.clone()
        spoiled[rows - 1, 40] = value
        found = product(spoiled, weights)
        assert found[-1].isnan().all()
        assert torch.equal(found[:-1], whole[:-1])
