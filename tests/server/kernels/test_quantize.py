"""The rotation is orthogonal and its own inverse; the native quantiser matches the reference."""

import math

import pytest
import torch

from headmix_server.kernels.native.build import find_compiler
from headmix_server.kernels.native.loading import load_native
from headmix_server.kernels.quantize import ZERO, RowQuantizer, native_quantize_rows, quantize_rows, turn, turning_block

WIDTHS = {576: 64, 1536: 512, 2048: 512, 100: 4, 24: 8, 7: 1, 1: 1}


@pytest.fixture(autouse=True, scope="module")
def native_kernels() -> None:
    assert load_native() == (find_compiler() is not None)


@pytest.mark.parametrize(("width", "block"), WIDTHS.items())
def test_a_turn_keeps_products_and_turns_back(width: int, block: int) -> None:
    torch.manual_seed(0)
    assert turning_block(width) == block
    x, w = torch.randn(5, width), torch.randn(3, width)
    torch.testing.assert_close(turn(x, block) @ turn(w, block).T, x @ w.T, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(turn(turn(x, block), block), x, atol=1e-5, rtol=1e-5)


@pytest.mark.skipif(find_compiler() is None, reason="no C++ compiler on this machine")
@pytest.mark.parametrize(("width", "block"), WIDTHS.items())
@pytest.mark.parametrize("rows", [0, 1, 40])
def test_native_codes_are_those_of_the_reference(width: int, block: int, rows: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(width, rows).t() * torch.logspace(-4, 4, rows)[:, None]
    if rows > 1:
        x[1] = 0
    (codes, scales), (native, native_scales) = quantize_rows(x, block), native_quantize_rows(x, block)
    torch.testing.assert_close(native_scales, scales, atol=0, rtol=1e-5)
    differing = (native.int() - codes.int()).abs()  # where a value lies between two codes, rounding may differ
    assert differing.sum() <= max(1, codes.numel() // 1000)
    assert (differing <= 1).all()
    assert rows < 2 or (native[1] == ZERO).all()


@pytest.mark.skipif(find_compiler() is None, reason="no C++ compiler on this machine")
def test_the_native_quantiser_refuses_what_it_cannot_read() -> None:
    codes, scales = torch.empty(2, 8, dtype=torch.uint8), torch.empty(2, 1)
    for x, block in ((torch.zeros(2, 8, dtype=torch.float64), 8), (torch.zeros(2, 8), 3), (torch.zeros(2, 8), 16)):
        with pytest.raises(RuntimeError):
            torch.ops.headmix.quantize_rows(x, block, codes, scales)
    with pytest.raises(RuntimeError, match="codes"):
        torch.ops.headmix.quantize_rows(torch.zeros(3, 8), 8, codes, scales)


QUANTIZERS = [
    quantize_rows,
    pytest.param(
        native_quantize_rows,
        marks=pytest.mark.skipif(find_compiler() is None, reason="no C++ compiler on this machine"),
    ),
]


@pytest.mark.parametrize("quantize", QUANTIZERS)
@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf, 3e38])
@pytest.mark.parametrize(("width", "block"), WIDTHS.items())
def test_a_row_that_is_not_finite_has_no_finite_scale_and_others_keep_theirs(
    width: int, block: int, broken: float, quantize: RowQuantizer
) -> None:
    torch.manual_seed(0)
    x = torch.randn(4, width)
    codes, scales = quantize(x, block)
    poisoned = x.clone()
    poisoned[1, width // 2] = broken
    poisoned[2] = broken
    found, found_scales = quantize(poisoned, block)
    assert torch.equal(found[[0, 3]], codes[[0, 3]])
    assert torch.equal(found_scales[[0, 3]], scales[[0, 3]])
    if not math.isfinite(broken):
        assert not found_scales[1:3].isfinite().any()
