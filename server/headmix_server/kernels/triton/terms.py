"""The common start of every kernel here: finding a tile's rows, and a term of its slot in the images.

Triton compiles these into the kernels that call them. Sizes of the base are compile-time constants; ranks, offsets and
tiles are read on the device, so a kernel neither waits for the host nor is recompiled when adapters change.
"""

import triton
import triton.language as tl


@triton.jit
def tile_rows(
    rows: tl.tensor, start: tl.tensor, end: tl.tensor, BLOCK_M: tl.constexpr
) -> tuple[tl.tensor, tl.tensor, tl.tensor]:
    """Return a tile's indices into the routed rows, the batch rows there, and which are real: [BLOCK_M] each."""
    places = start + tl.arange(0, BLOCK_M)
    real = places < end
    return places, tl.load(rows + places, mask=real, other=0).to(tl.int64), real


@triton.jit
def _aligned(offset: tl.tensor) -> tl.tensor:
    """Assure the compiler that tensors begin at multiples of 16 elements, so that it reads 16 bytes at a time.

    This must be stated where the number is computed: the compiler drops hints about a function's result.
    """
    return tl.multiple_of(tl.where(offset < 0, 0, offset), 16)


@triton.jit
def find_term(
    offsets: tl.tensor,
    ranks: tl.tensor,
    slot: tl.tensor,
    layer: tl.tensor,
    TERM: tl.constexpr,
    NUM_TERMS: tl.constexpr,
    NUM_LAYERS: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor, tl.tensor, tl.tensor]:
    """Return a term's rank, 0 if the slot does not have it in this layer, and the offsets of A, B and bias.

    Only the bias's offset is negative if there is none.
    """
    entry = offsets + ((slot * NUM_LAYERS + layer) * NUM_TERMS + TERM) * 3
    at_A, at_B = tl.load(entry), tl.load(entry + 1)
    rank = tl.where(at_A < 0, 0, tl.load(ranks + slot * NUM_TERMS + TERM))
    return rank, _aligned(at_A), _aligned(at_B), tl.load(entry + 2)
