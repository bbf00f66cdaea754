"""FlashInfer's paged prefill wrapper in the plainest form: it computes only from the plan, as documented."""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention


class Wrapper:
    """Stands in for the wrapper of one kind of layer."""

    def __init__(self) -> None:
        self.plans = 0

    def plan(self, *args: Tensor | int, causal: bool = False, **options: Any) -> None:
        """Store the plan, after checking that its tensors are where FlashInfer wants them."""
        self.plans += 1
        tensors = [arg for arg in args if isinstance(arg, Tensor)]
        assert all(t.dtype == torch.int32 and t.device.type == "cpu" for t in tensors)
        assert causal
        self.rows, *self.pages = tensors
        self.options = options
        assert options["q_data_type"] == options["kv_data_type"]

    def run(self, q: Tensor, cache: tuple[Tensor, Tensor]) -> Tensor:
        """Attend sequence by sequence, to the pages in use and no further."""
        assert q.dtype == self.options["q_data_type"]
        indptr, indices, last = self.pages
        out = torch.empty_like(q)
        for i in range(len(self.rows) - 1):
            own = indices[indptr[i] : indptr[i + 1]].long()
            length = (len(own) - 1) * cache[0].shape[1] + int(last[i])
            key, value = (side[own].flatten(0, 1)[:length].transpose(0, 1) for side in cache)  # [G, length, P]
            rows = slice(int(self.rows[i]), int(self.rows[i + 1]))
            count = rows.stop - rows.start
            at = torch.arange(length - count, length)[:, None]
            places = torch.arange(length)
            seen = places <= at
            if self.options["window_left"] >= 0:
                seen &= places >= at - self.options["window_left"]
            out[rows] = scaled_dot_product_attention(
                q[rows].transpose(0, 1), key, value, attn_mask=seen, scale=self.options["sm_scale"], enable_gqa=True
            ).transpose(0, 1)
        return out
