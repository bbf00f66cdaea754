"""Running a static step repeatedly, as a captured CUDA graph."""

from typing import NewType, Protocol

import torch
from torch import Tensor

from headmix_server.device.cuda.static_step import StaticStep

WARM_UPS = 2
"""Runs before a capture: libraries choose their kernels and Triton compiles its own, which a capture cannot do."""


GraphPool = NewType("GraphPool", tuple[int, int])
"""Torch's handle of the memory that captured graphs share."""


class Replay(Protocol):
    """A static step that can be run."""

    def run(self) -> Tensor:
        """Compute on the contents of the step's buffers; returns hidden states [rows, D], valid until the next run."""
        ...


class CudaGraphReplay:
    """See `Replay`: captured on construction, one launch per run. All graphs may share the memory `pool`.

    The step's buffers must hold a batch that can be computed.
    """

    def __init__(self, step: StaticStep, pool: GraphPool) -> None:
        self._step = step
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # torch has no types here
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UPS):
                step.compute()
        torch.cuda.current_stream().wait_stream(side)
        self._graph = torch.cuda.CUDAGraph()
        # "thread_local": loader threads keep pinning memory and copying adapters while this thread captures
        with torch.cuda.graph(self._graph, pool=pool, capture_error_mode="thread_local"):  # type: ignore[arg-type]  # torch's own name is private
            step.compute()
        self._hidden = _result(step)

    def run(self) -> Tensor:
        """See `Replay`."""
        self._graph.replay()
        return self._hidden


def _result(step: StaticStep) -> Tensor:
    if step.hidden is None:
        raise RuntimeError("the step was not computed")
    return step.hidden
