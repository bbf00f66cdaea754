"""Products in bfloat16 by each of the processor's units are the reference's, row by row, in every batch."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from headmix_server.kernels.native.build import find_compiler
from headmix_server.kernels.native.loading import load_native
from headmix_server.kernels.stored.bfloat16 import Unit, available_units, multiply_rounded, reference_rounded
from headmix_server.kernels.stored.pack import pack
from headmix_server.kernels.stored.unpack import unpack
from headmix_server.kernels.stored.weights import StoredWeights

needs_compiler = pytest.mark.skipif(find_compiler() is None, reason="no C++ compiler on this machine")
SHAPES = ((1, 1), (16, 32), (37, 50), (100, 769), (64, 1536), (576, 33))
ROWS = (*range(8), 15, 16, 17, 32, 33, 47, 49, 128, 129, 145, 300)
NONE = torch.empty(0)


@pytest.fixture(params=[Unit.AVX512_BF16, Unit.AMX], ids=lambda unit: unit.name)
def unit(request: pytest.FixtureRequest) -> Unit:
    wanted: Unit = request.param
    if wanted not in available_units():
        pytest.skip(f"this processor has no {wanted.name}")
    return wanted


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def draw(outputs: int, inputs: int) -> StoredWeights:
    return pack(torch.randn(outputs, inputs, generator=torch.Generator().manual_seed(outputs)).bfloat16(), "BF16")


def product(x: Tensor, weights: StoredWeights, unit: Unit, bias: Tensor = NONE) -> Tensor:
    out = torch.full((x.shape[0], weights.outputs), torch.nan)
    multiply_rounded(x, weights, unit, bias, out)
    return out


@needs_compiler
@pytest.mark.parametrize(("outputs", "inputs"), SHAPES)
def test_products_are_the_references_at_every_number_of_rows_and_threads(
    unit: Unit, outputs: int, inputs: int, threads: int
) -> None:
    del threads
    torch.manual_seed(0)
    weights, bias = draw(outputs, inputs), torch.randn(outputs)
    whole = torch.randn(max(ROWS), inputs)
    expected = reference_rounded(whole, weights)
    terms = whole.bfloat16().float().abs() @ unpack(weights).abs().t()
    for rows in ROWS:
        found = product(whole[:rows], weights, unit)
        assert ((found - expected[:rows]).abs() <= 1e-6 * terms[:rows]).all(), rows
        torch.testing.assert_close(product(whole[:rows], weights, unit, bias), found + bias, atol=0, rtol=0)


@needs_compiler
def test_a_rows_result_is_the_same_to_the_bit_in_every_batch_and_on_every_number_of_threads(unit: Unit) -> None:
    torch.manual_seed(0)
    weights = draw(100, 512)
    x = torch.randn(300, 512)
    x[3], x[20, 7] = torch.nan, torch.inf  # each spoils its own row alone
    whole = product(x, weights, unit)
    assert whole.isfinite().all(dim=1).logical_not().nonzero().flatten().tolist() == [3, 20]
    assert whole[3].isnan().all()
    before = torch.get_num_threads()
    for threads in (1, 2):
        torch.set_num_threads(threads)
        for rows in ROWS:
            assert torch.equal(product(x[:rows], weights, unit).nan_to_num(), whole[:rows].nan_to_num())
        assert torch.equal(product(x[7:8], weights, unit), whole[7:8])
    torch.set_num_threads(before)


@needs_compiler
def test_numbers_are_rounded_to_the_nearest_as_torch_does(unit: Unit) -> None:
    one = pack(torch.eye(32).bfloat16(), "BF16")
    numbers = torch.tensor([1 + 2**-9, 1 + 3 * 2**-9, 1 + 2**-8, -(1 + 2**-8 + 2**-20), 3e38, 3.4e38, -0.0, 0.0])
    x = torch.diag(torch.cat([numbers, torch.zeros(24)]))
    found = product(x, one, unit).diagonal()[:8]
    assert torch.equal(found[:5], numbers.bfloat16().float()[:5])
    assert not found[5].isfinite()  # it rounds to infinity
    assert not found[6:].any()


@needs_compiler
def test_inputs_may_be_apart_and_results_are_written_beside_others(unit: Unit) -> None:
    weights, wide = draw(37, 50), torch.randn(40, 90)
    x, out = wide[::2, 17:67], torch.zeros(20, 60)
    multiply_rounded(x, weights, unit, NONE, out[:, 10:47])
    assert torch.equal(out[:, 10:47], product(x.contiguous(), weights, unit))
    assert not out[:, :10].any()
    assert not out[:, 47:].any()


@needs_compiler
def test_what_an_earlier_product_left_behind_is_not_read(unit: Unit) -> None:
    """Rounded rows are kept in one place: a shorter and narrower product follows one of infinities."""
    product(torch.full((64, 96), torch.inf), draw(16, 96), unit)
    weights, x = draw(16, 33), torch.randn(17, 33)
    torch.testing.assert_close(product(x, weights, unit), reference_rounded(x, weights), atol=1e-5, rtol=1e-5)


@needs_compiler
def test_what_it_cannot_read_is_refused_with_nothing_written(unit: Unit) -> None:
    weights, out = draw(37, 64), torch.zeros(2, 37)
    call = torch.ops.headmix.bfloat16_linear
    for x, blocks, by, bias, name in (
        (torch.zeros(2, 32), weights.blocks, unit, NONE, "32 inputs"),
        (torch.zeros(2, 64, dtype=torch.bfloat16), weights.blocks, unit, NONE, "x must be"),
        (torch.zeros(64, 2).t(), weights.blocks, unit, NONE, "x must be"),
        (torch.zeros(3, 64), weights.blocks, unit, NONE, "rows"),
        (torch.zeros(2, 64), weights.blocks[:1], unit, NONE, "groups"),
        (torch.zeros(2, 64), weights.blocks[..., :512], unit, NONE, "bytes"),
        (torch.zeros(2, 64), weights.blocks, 4, NONE, "no unit 4"),
        (torch.zeros(2, 64), weights.blocks, unit, torch.zeros(36), "bias"),
    ):
        with pytest.raises(RuntimeError, match=name):
            call(x, blocks, int(by), bias, out)
    assert not out.any()


@pytest.mark.skipif(not load_native(), reason="no native kernels here")
def test_a_processor_without_the_units_has_none_and_says_so() -> None:
    missing = {Unit.AVX512_BF16, Unit.AMX} - set(available_units())
    for unit in missing:
        with pytest.raises(RuntimeError, match="this processor has no unit"):
            product(torch.zeros(1, 32), draw(16, 32), unit)
