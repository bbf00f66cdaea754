"""The Triton row operations match torch's, for any shape and memory layout of the rows."""

import pytest
import torch

from headmix_server.kernels import row_ops
from headmix_server.kernels.triton.row_ops import triton_gated_silu, triton_rms_norm, triton_rotate

WIDTHS = (1, 7, 16, 100, 576)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("rows", [0, 1, 9])
def test_norm_and_silu_are_torch_s(rows: int, width: int) -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(rows, width) * torch.logspace(-4, 4, rows)[:, None], torch.randn(width)
    torch.testing.assert_close(triton_rms_norm(x, weight, 1e-5), row_ops.rms_norm(x, weight, 1e-5))
    gate_up = torch.randn(rows, 2 * width) * 8
    torch.testing.assert_close(triton_gated_silu(gate_up), row_ops.gated_silu(gate_up.clone()), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("size", [2, 16, 20])
def test_heads_are_read_where_they_lie_between_others(size: int) -> None:
    torch.manual_seed(0)
    states, weight = torch.randn(5, 9, size), torch.randn(size)
    angles = torch.randn(5, 1, size), torch.randn(5, 1, size)
    for part in (states[:, :4], states[:, 4:7], states[1:2, 8:]):
        torch.testing.assert_close(triton_rms_norm(part, weight, 1e-6), row_ops.rms_norm(part, weight, 1e-6))
        own = angles[0][: len(part)], angles[1][: len(part)]
        torch.testing.assert_close(triton_rotate(part, own), row_ops.rotate(part, own))


def test_bfloat16_is_rounded_once() -> None:
    torch.manual_seed(0)
    x, weight, gate_up = (torch.randn(shape).bfloat16() for shape in ((3, 64), (64,), (3, 128)))
    found = triton_rms_norm(x, weight, 1e-6), triton_gated_silu(gate_up)
    exact = row_ops.rms_norm(x.float(), weight.float(), 1e-6), row_ops.gated_silu(gate_up.float())
    for mine, wanted in zip(found, exact, strict=True):
        assert mine.dtype == torch.bfloat16
        # a unit in the last place: the GPU rounds to nearest, the interpreter truncates
        torch.testing.assert_close(mine.float(), wanted, rtol=2**-7, atol=1e-6)


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")  # numpy's, in the interpreter
def test_not_a_number_stays_in_its_row() -> None:
    x = torch.randn(3, 40)
    x[1] = float("nan")
    angles = torch.ones(3, 1, 10), torch.ones(3, 1, 10)
    found = triton_rms_norm(x, torch.ones(40), 1e-5), triton_gated_silu(x), triton_rotate(x.view(3, 4, 10), angles)
    for rows in found:
        assert rows[1].isnan().all()
        assert rows[[0, 2]].isfinite().all()


def test_rows_with_gaps_in_them_are_refused() -> None:
    with pytest.raises(ValueError, match="not dense"):
        triton_rms_norm(torch.zeros(2, 16)[:, ::2], torch.ones(8), 1e-5)
    with pytest.raises(ValueError, match="not contiguous"):
        triton_gated_silu(torch.zeros(2, 16)[:, :8])


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")  # numpy's, in the interpreter
def test_a_row_too_large_to_be_squared_is_not_normalised_to_zeros() -> None:
    x = torch.randn(4, 20)
    x[1, 3], x[2, 7] = 1e25, float("inf")
    found = triton_rms_norm(x, torch.ones(20), 1e-5)
    assert found[1:3].isnan().all()
    torch.testing.assert_close(found[[0, 3]], row_ops.rms_norm(x[[0, 3]], torch.ones(20), 1e-5))
