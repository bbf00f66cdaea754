"""Stored weights are the checkpoint's numbers bit for bit, and products with them match the reference's."""

from collections.abc import Iterator

import gguf
import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from headmix_server.kernels.native.build import find_compiler
from headmix_server.kernels.native.loading import load_native
from headmix_server.kernels.stored.pack import FLOATS, KINDS, pack
from headmix_server.kernels.stored.products import multiply, rows_of
from headmix_server.kernels.stored.unpack import unpack
from headmix_server.kernels.stored.weights import StoredWeights

needs_compiler = pytest.mark.skipif(find_compiler() is None, reason="no C++ compiler on this machine")
SHAPES = ((1, 256), (16, 512), (100, 768), (37, 1536), (576, 256))
SUPER = {"Q4_K": (144, (0, 2)), "Q5_K": (176, (0, 2)), "Q6_K": (210, (208,))}
"""The types with blocks of 256: their size in bytes, and the offsets of their half-precision values."""
NONE = torch.empty(0)


@pytest.fixture(autouse=True, scope="module")
def native_kernels() -> None:
    assert load_native() == (find_compiler() is not None)


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def draw(kind: str, outputs: int, inputs: int) -> tuple[Tensor, StoredWeights]:
    """Return random weights, unpacked by the format's own library and packed by ours."""
    values = np.random.default_rng(outputs + inputs).normal(0, 0.3, (outputs, inputs)).astype(np.float32)
    if kind in FLOATS:
        rows = torch.from_numpy(values).to(FLOATS[kind])
        return rows.float(), pack(rows, kind)
    number = gguf.GGMLQuantizationType[kind]
    raw = _random_blocks(kind, outputs, inputs) if kind in SUPER else gguf.quantize(values, number)
    return torch.from_numpy(gguf.dequantize(raw, number).copy()), pack(torch.from_numpy(raw), kind)


def _random_blocks(kind: str, outputs: int, inputs: int) -> npt.NDArray[np.uint8]:
    """Return blocks of random bits with finite half-precision values: the library cannot quantise to these types."""
    size, halves = SUPER[kind]
    generator = np.random.default_rng(outputs)
    raw = generator.integers(0, 256, (outputs, inputs // 256, size), np.uint8)
    for place in halves:
        scales = generator.normal(0, 0.01, (*raw.shape[:2], 1)).astype(np.float16)
        raw[..., place : place + 2] = scales.view(np.uint8)
    return raw.reshape(outputs, -1)


def product(x: Tensor, weights: StoredWeights, bias: Tensor = NONE) -> Tensor:
    out = torch.full((x.shape[0], weights.outputs), torch.nan)
    multiply(x, weights, bias, out)
    return out


def assert_sums(actual: Tensor, x: Tensor, weight: Tensor) -> None:
    """Compare with the exact products, within the rounding of their terms; AMX takes those below 2^-126 as zeros."""
    error = (actual - x.double() @ weight.double().T).abs()
    assert (error <= 1e-6 * (x.abs() @ weight.abs().T) + 2.0**-126 * 3 * x.shape[1]).all()


@pytest.mark.parametrize(("outputs", "inputs"), SHAPES)
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_packing_changes_no_number(kind: str, outputs: int, inputs: int) -> None:
    expected, weights = draw(kind, outputs, inputs)
    assert torch.equal(unpack(weights), expected)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_packed_weights_take_at_most_1_25_times_the_checkpoints_bytes(kind: str) -> None:
    width, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]]
    assert draw(kind, 576, 1536)[1].nbytes <= 1.25 * 576 * 1536 * size / width


@needs_compiler
@pytest.mark.parametrize(("outputs", "inputs"), SHAPES)
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_products_are_the_references_at_every_number_of_rows_and_threads(
    kind: str, outputs: int, inputs: int, threads: int
) -> None:
    del threads
    torch.manual_seed(0)
    expected, weights = draw(kind, outputs, inputs)
    bias = torch.randn(outputs)
    for rows in (*range(14), 25, 32, 600):
        x = torch.randn(rows, inputs)
        assert_sums(product(x, weights), x, expected)
        torch.testing.assert_close(product(x, weights, bias), product(x, weights) + bias, atol=0, rtol=0)


@needs_compiler
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_rows_result_is_the_same_to_the_bit_in_every_batch_and_on_every_number_of_threads(kind: str) -> None:
    torch.manual_seed(0)
    _, weights = draw(kind, 100, 512)
    x = torch.randn(520, 512)
    x[3] = torch.nan  # spoils only its own row
    whole = product(x, weights)
    assert whole[3].isnan().all()
    before = torch.get_num_threads()
    for threads in (1, 2):
        torch.set_num_threads(threads)
        for rows in (*range(14), 32, 520):
            assert torch.equal(product(x[:rows], weights).nan_to_num(), whole[:rows].nan_to_num())
        assert torch.equal(product(x[7:8], weights), whole[7:8])
    torch.set_num_threads(before)


@needs_compiler
@pytest.mark.parametrize(("outputs", "inputs"), SHAPES)
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_looked_up_rows_are_the_checkpoints(kind: str, outputs: int, inputs: int) -> None:
    expected, weights = draw(kind, outputs, inputs)
    wanted = torch.tensor([outputs - 1, 0, outputs // 2, 0])
    assert torch.equal(rows_of(weights, wanted), expected[wanted])


@needs_compiler
@pytest.mark.parametrize("kind", sorted(FLOATS))
def test_inputs_that_fill_no_block_and_every_16_bit_number_are_read(kind: str) -> None:
    bits = torch.arange(1 << 16, dtype=torch.int32).to(torch.int16).view(FLOATS[kind]).view(-1, 64)[:, :50]
    weights = pack(bits, kind)
    expected = bits.float()
    finite = expected.nan_to_num(0, 0, 0)
    assert torch.equal(unpack(weights).nan_to_num(), expected.nan_to_num())
    rows = rows_of(weights, torch.arange(bits.shape[0]))
    assert torch.equal(rows.isnan(), expected.isnan())
    assert torch.equal(rows.nan_to_num(), expected.nan_to_num())
    x = torch.randn(3, 50)
    small = finite.clamp(-1e4, 1e4)
    assert_sums(product(x, pack(small.to(FLOATS[kind]), kind)), x, small.to(FLOATS[kind]).float())


@needs_compiler
def test_results_are_written_beside_others_and_nothing_else_is_touched() -> None:
    _, weights = draw("Q4_1", 37, 64)
    x, out = torch.randn(9, 64), torch.zeros(9, 60)
    multiply(x, weights, NONE, out[:, 10:47])
    assert torch.equal(out[:, 10:47], product(x, weights))
    assert not out[:, :10].any()
    assert not out[:, 47:].any()


@needs_compiler
def test_what_it_cannot_read_is_refused_with_nothing_written() -> None:
    _, weights = draw("Q8_0", 37, 64)
    out = torch.zeros(2, 37)
    call = torch.ops.headmix.stored_linear
    for x, blocks, kind, bias, name in (
        (torch.zeros(2, 32), weights.blocks, weights.kind, NONE, "x must have rows of 64"),
        (torch.zeros(2, 64, dtype=torch.float64), weights.blocks, weights.kind, NONE, "x must be"),
        (torch.zeros(3, 64), weights.blocks, weights.kind, NONE, "rows"),
        (torch.zeros(2, 64), weights.blocks[:1], weights.kind, NONE, "groups"),
        (torch.zeros(2, 64), weights.blocks, 0, NONE, "bytes"),
        (torch.zeros(2, 64), weights.blocks, 9, NONE, "no kind 9"),
        (torch.zeros(2, 64), weights.blocks, weights.kind, torch.zeros(36), "bias"),
    ):
        with pytest.raises(RuntimeError, match=name):
            call(x, blocks, kind, bias, out)
    with pytest.raises(RuntimeError, match="no row 37"):
        rows_of(weights, torch.tensor([37]))
    assert not out.any()
