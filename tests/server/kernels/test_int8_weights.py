"""Native products in 8 bits are oneDNN's bit for bit, and what cannot be multiplied is refused."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from headmix_server.kernels.native.build import find_compiler
from headmix_server.kernels.native.loading import load_native
from headmix_server.kernels.quantize import native_quantize_rows
from headmix_server.models.formats.int8_linear import int8_linear, native_int8_linear

pytestmark = pytest.mark.skipif(find_compiler() is None, reason="no C++ compiler on this machine")

SHAPES = ((16, 64), (48, 576), (37, 100), (80, 7), (560, 1536))
NONE = torch.empty(0)


@pytest.fixture(autouse=True, scope="module")
def native() -> None:
    assert load_native()


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def inputs(rows: int, width: int) -> Tensor:
    return torch.randn(rows, width) * torch.logspace(-3, 3, rows)[:, None]


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize(("outputs", "width"), SHAPES)
@pytest.mark.parametrize("rows", [0, 1, 2, 4, 5, 12, 16, 17, 33, 70])
def test_native_products_are_those_of_onednn_bit_for_bit(rows: int, outputs: int, width: int) -> None:
    torch.manual_seed(rows)
    weight, x = torch.randn(outputs, width), inputs(rows, width)
    native = native_int8_linear(weight, None, native_quantize_rows)
    assert torch.equal(native(x), int8_linear(weight, None, native_quantize_rows)(x))


@pytest.mark.parametrize("rows", [1, 20])
def test_a_bias_is_added(rows: int) -> None:
    torch.manual_seed(0)
    weight, bias, x = torch.randn(37, 100), torch.randn(37), inputs(rows, 100)
    expected = int8_linear(weight, bias, native_quantize_rows)(x)
    torch.testing.assert_close(native_int8_linear(weight, bias, native_quantize_rows)(x), expected)


@pytest.mark.parametrize("rows", [3, 40])
def test_a_row_that_is_not_finite_breaks_itself_alone(rows: int) -> None:
    torch.manual_seed(0)
    linear, x = native_int8_linear(torch.randn(48, 576), None, native_quantize_rows), inputs(rows, 576)
    sound = linear(x)
    x[1, 7] = torch.inf
    found = linear(x)
    others = [row for row in range(rows) if row != 1]
    assert found[1].isnan().all()
    assert torch.equal(found[others], sound[others])


def test_rows_and_results_may_lie_between_others() -> None:
    torch.manual_seed(0)
    linear, wide, out = native_int8_linear(torch.randn(48, 64), None, native_quantize_rows), inputs(6, 200), NONE
    out = torch.zeros(6, 60)
    torch.ops.headmix.int8_linear(wide[:, 100:164], linear.weights.groups, NONE, out[:, 6:54])
    assert torch.equal(out[:, 6:54], linear(wide[:, 100:164].contiguous()))
    assert not out[:, :6].any()
    assert not out[:, 54:].any()


def test_what_cannot_be_multiplied_is_refused() -> None:
    groups = native_int8_linear(torch.randn(48, 64), None, native_quantize_rows).weights.groups
    x, out = torch.zeros(2, 64), torch.zeros(2, 48)
    for bad_x, bad_groups, bad_bias, bad_out in (
        (x.double(), groups, NONE, out),
        (torch.zeros(2, 65), groups, NONE, out),
        (torch.zeros(64, 2).t(), groups, NONE, out),
        (x, groups[1:], NONE, out),
        (x, groups[:, 1:], NONE, out),
        (x, groups.float(), NONE, out),
        (x, groups, torch.zeros(47), out),
        (x, groups, NONE, out[:1]),
        (x, groups, NONE, torch.zeros(2, 49)),
    ):
        with pytest.raises(RuntimeError):
            torch.ops.headmix.int8_linear(bad_x, bad_groups, bad_bias, bad_out)
