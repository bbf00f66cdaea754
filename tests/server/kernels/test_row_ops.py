"""The native row operations match the reference, for any shape and memory layout of the rows."""

from collections.abc import Callable

import pytest
import torch

from headmix_server.kernels.native.build import find_compiler
from headmix_server.kernels.native.loading import load_native
from headmix_server.kernels.row_ops import (
    NATIVE,
    TORCH,
    choose_row_ops,
    gated_silu,
    native_gated_silu,
    native_rms_norm,
    native_rotate,
    rms_norm,
    rotate,
)
from headmix_server.models.layers.norm import LayerNorm

Norm = Callable[[torch.Tensor, torch.Tensor, float], torch.Tensor]
needs_native = pytest.mark.skipif(find_compiler() is None, reason="no C++ compiler on this machine")
WIDTHS = (1, 7, 16, 64, 100, 576)


@pytest.fixture(autouse=True, scope="module")
def native_kernels() -> None:
    assert load_native() == (find_compiler() is not None)


@needs_native
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("rows", [0, 1, 40])
def test_the_native_norm_is_torch_s(rows: int, width: int) -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(rows, width) * torch.logspace(-4, 4, rows)[:, None], torch.randn(width)
    torch.testing.assert_close(native_rms_norm(x, weight, 1e-5), rms_norm(x, weight, 1e-5), atol=1e-6, rtol=1e-5)


@needs_native
def test_the_native_norm_reads_heads_where_they_lie_between_others() -> None:
    torch.manual_seed(0)
    states, weight = torch.randn(5, 9, 20), torch.randn(20)
    for part in (states[:, :4], states[:, 4:7], states[1:2, 8:]):
        torch.testing.assert_close(native_rms_norm(part, weight, 1e-6), rms_norm(part, weight, 1e-6))


@needs_native
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("rows", [0, 1, 40])
def test_the_native_gated_silu_is_torch_s(rows: int, width: int) -> None:
    torch.manual_seed(0)
    gate_up = torch.randn(rows, 2 * width) * 8
    torch.testing.assert_close(native_gated_silu(gate_up), gated_silu(gate_up.clone()), atol=1e-6, rtol=1e-5)


@needs_native
@pytest.mark.parametrize("size", [2, 20, 64])
@pytest.mark.parametrize("rows", [0, 1, 40])
def test_the_native_rotation_is_torch_s_wherever_the_heads_lie(rows: int, size: int) -> None:
    torch.manual_seed(0)
    states, cos, sin = torch.randn(rows, 9, size), torch.randn(rows, 1, size), torch.randn(rows, 1, size)
    part = states[:, 2:7]
    expected = rotate(part, (cos, sin))
    torch.testing.assert_close(native_rotate(part, (cos, sin)), expected, atol=1e-5, rtol=1e-5)
    torch.ops.headmix.rotate(part, cos, sin, part)
    torch.testing.assert_close(part, expected, atol=1e-5, rtol=1e-5)


@needs_native
def test_silu_of_extremes_is_neither_infinite_nor_nan() -> None:
    gates = torch.tensor([-1e30, -200.0, -88.0, -1e-30, 0.0, 1e-30, 88.0, 200.0, 1e30])
    gate_up = torch.cat([gates, torch.ones(len(gates))])[None].repeat(3, 1)
    torch.testing.assert_close(native_gated_silu(gate_up), gated_silu(gate_up.clone()), atol=1e-30, rtol=1e-5)


@needs_native
def test_not_a_number_stays_one() -> None:
    x = torch.full((1, 40), float("nan"))
    assert native_rms_norm(x, torch.ones(40), 1e-5).isnan().all()
    assert native_gated_silu(x).isnan().all()


@pytest.mark.parametrize("norm", [rms_norm, pytest.param(native_rms_norm, marks=needs_native)])
@pytest.mark.parametrize("width", [2, 20, 576])
def test_a_row_too_large_to_be_squared_is_not_normalised_to_zeros(norm: Norm, width: int) -> None:
    x, weight = torch.randn(5, width), torch.ones(width)
    x[1, -1], x[2], x[3, 0] = 1e25, -3e38, 1e15
    found = norm(x, weight, 1e-5)
    assert found[1:3].isnan().all()
    assert found[[0, 3, 4]].isfinite().all()
    assert torch.equal(found[[0, 4]], norm(x[[0, 4]], weight, 1e-5))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_layer_norm_says_so_too(dtype: torch.dtype) -> None:
    x = torch.randn(3, 20).to(dtype)
    x[1, 4] = 1e25
    norm = LayerNorm(torch.ones(20, dtype=dtype), torch.ones(20, dtype=dtype), 1e-5)
    assert norm(x)[1].isnan().all()
    assert torch.equal(norm(x)[[0, 2]], norm(x[[0, 2]]))
    assert norm(x)[[0, 2]].isfinite().all()


@needs_native
def test_a_row_s_result_is_the_same_bits_in_any_batch() -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(300, 576), torch.randn(576)
    whole = native_rms_norm(x, weight, 1e-5), native_gated_silu(x)
    for row in (0, 17, 299):
        alone = native_rms_norm(x[row : row + 1], weight, 1e-5), native_gated_silu(x[row : row + 1])
        assert all(torch.equal(part[row], own[0]) for part, own in zip(whole, alone, strict=True))


@needs_native
def test_what_cannot_be_read_is_refused() -> None:
    x, weight, out = torch.zeros(2, 8), torch.zeros(8), torch.zeros(2, 8)
    for bad_x, bad_weight, bad_out in (
        (x.double(), weight, out),
        (x, weight[:7], out),
        (x, weight, out[:1]),
        (torch.zeros(8, 2).t(), weight, out),
        (x[None, None], weight, out),
    ):
        with pytest.raises(RuntimeError):
            torch.ops.headmix.rms_norm(bad_x, bad_weight, 1e-5, bad_out)
    for gate_up in (torch.zeros(2, 7), torch.zeros(2, 2, 8), torch.zeros(2, 8).double()):
        with pytest.raises(RuntimeError):
            torch.ops.headmix.gated_silu(gate_up, torch.zeros(2, 4))


def test_torch_serves_what_the_native_operations_do_not() -> None:
    cpu = torch.device("cpu")
    assert choose_row_ops(cpu, torch.float32) is (NATIVE if find_compiler() else TORCH)
    assert choose_row_ops(cpu, torch.bfloat16) is TORCH
    assert choose_row_ops(torch.device("meta"), torch.float32) is TORCH
