"""Attention of a whole ragged step on CUDA by FlashInfer over the paged cache, one call per layer.

FlashInfer plans a step on the host from its block tables, once for each combination of scale and window in the layers.
The wrappers are FlashInfer's own classes (written against 0.7.2), passed in so that tests need no GPU.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from headmix_server.kernels.attention.step_layout import BlockTable, StepLayout
from headmix_server.kernels.attention.torch_sdpa import spoil_broken_rows

WORKSPACE_BYTES = 128 * 2**20
"""FlashInfer's recommended workspace size; all wrappers share one workspace, because only one computes at a time."""

HEAD_SIZES = frozenset({64, 128, 256})
"""The head sizes that FlashInfer's kernels support."""


class Wrapper(Protocol):
    """The parts of FlashInfer's paged prefill wrapper that are used here."""

    @property
    def plan(self) -> Callable[..., None]:
        """Prepare a step from its block tables, on the host."""
        ...

    @property
    def run(self) -> Callable[..., Tensor]:
        """Attend with q [rows, H, P] over pages (keys, values) as planned; returns q's shape."""
        ...


Kind = tuple[float, int | None]
"""A layer's scale and window."""


@dataclass(frozen=True, slots=True)
class PageTable:
    """The block tables of n sequences in FlashInfer's format, int32 on the CPU."""

    indptr: Tensor  # [n + 1] where each sequence's pages begin
    indices: Tensor  # [pages] cache blocks
    last: Tensor  # [n] how many places of each sequence's last page are in use


def tabulate_pages(ends: Tensor, blocks: Tensor, block_size: int) -> PageTable:
    """Build the table of sequences with contexts of `ends` [n] positions in `blocks` [n, longest], both on the CPU."""
    counts = (ends + block_size - 1) // block_size
    used = torch.arange(blocks.shape[1], device="cpu") < counts[:, None]
    indptr = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    return PageTable(indptr.int(), blocks[used].int(), ((ends - 1) % block_size + 1).int())


class FlashInferAttention:
    """See `kernels.attention.torch_sdpa.StepAttention`: causal, any mix of prefill chunks and single rows.

    `caches` are every layer's keys and values [places, G, P]. `wrapper` returns the prefill wrapper for a scale and
    window, the same in every step.
    """

    def __init__(
        self,
        wrapper: Callable[[Kind], Wrapper],
        caches: Sequence[tuple[Tensor, Tensor]],
        layout: StepLayout,
        table: BlockTable,
    ) -> None:
        self._make = wrapper
        self._caches = caches
        self._block_size = table.block_size
        counts = layout.rows.diff()
        self._rows = layout.rows
        self._pages = tabulate_pages(layout.starts + counts, table.blocks, table.block_size)
        positions = layout.positions()
        owners = torch.arange(counts.numel(), device="cpu").repeat_interleave(counts)
        blocks = table.blocks[owners, positions // table.block_size].long()
        self._writes = (blocks * table.block_size + positions % table.block_size).to(caches[0][0].device)
        self._planned: dict[Kind, Wrapper] = {}

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, *, scale: float, window: int | None) -> Tensor:
        """See `StepAttention`."""
        kind = (scale, window)
        if kind not in self._planned:
            wrapper = self._make(kind)
            wrapper.plan(
                self._rows,
                self._pages.indptr,
                self._pages.indices,
                self._pages.last,
                num_qo_heads=q.shape[1],
                num_kv_heads=k.shape[1],
                head_dim_qk=q.shape[2],
                page_size=self._block_size,
                causal=True,
                **_options(scale, window, q.dtype),
            )
            self._planned[kind] = wrapper
        cache = _store(self._caches[layer], self._writes, k, v, self._block_size)
        return spoil_broken_rows(self._planned[kind].run(q.contiguous(), cache), q, k)


def _options(scale: float, window: int | None, dtype: torch.dtype) -> dict[str, Any]:
    """Return the model's part of a plan; FlashInfer's window does not count the row itself."""
    left = -1 if window is None else window - 1
    return {"sm_scale": scale, "window_left": left, "q_data_type": dtype, "kv_data_type": dtype}


def _store(
    cache: tuple[Tensor, Tensor], writes: Tensor, k: Tensor, v: Tensor, block_size: int
) -> tuple[Tensor, Tensor]:
    """Write keys and values to their places and return the cache as pages [pages, block_size, G, P]."""
    keys, values = cache
    keys.index_copy_(0, writes, k)
    values.index_copy_(0, writes, v)
    return keys.view(-1, block_size, *keys.shape[1:]), values.view(-1, block_size, *values.shape[1:])


def _numbers(numbers: Iterable[int]) -> Tensor:
    return torch.tensor(list(numbers), dtype=torch.int32, device="cpu")
