"""Where the engine computes and in which type: matching the settings to what the machine has."""

from dataclasses import dataclass
from typing import Literal

import torch

Dtype = Literal["auto", "float32", "bfloat16"]


class PlacementError(Exception):
    """The settings require something that this machine or this torch does not have."""


@dataclass(frozen=True, slots=True)
class Placement:
    """The device of all tensors on the data side, and the type of states and caches: of everything but matrices."""

    device: torch.device
    dtype: torch.dtype

    @property
    def on_cuda(self) -> bool:
        """Whether the device is a GPU."""
        return self.device.type == "cuda"


def choose_placement(device: Literal["auto", "cpu", "cuda"], dtype: Dtype) -> Placement:
    """Choose according to the settings. On a CPU, states are always float32: bfloat16 is only for the matrices.

    Raises:
        PlacementError: CUDA was requested but is not available.
    """
    available = torch.cuda.is_available()
    if device == "cuda" and not available:
        build = f"has CUDA {torch.version.cuda} but finds no GPU" if torch.version.cuda else "is built without CUDA"
        raise PlacementError(f"--device cuda: torch {torch.__version__} {build}")
    cuda = available and device != "cpu"
    # the current device with its index: tensors are on "cuda:0", which does not compare equal to a device named "cuda"
    chosen = torch.device("cuda", torch.cuda.current_device()) if cuda else torch.device("cpu")
    return Placement(chosen, torch.bfloat16 if cuda and dtype != "float32" else torch.float32)


def matrix_dtype(placement: Placement, dtype: Dtype) -> torch.dtype:
    """Return the type in which the base's matrices are stored and multiplied."""
    return torch.bfloat16 if dtype == "bfloat16" else placement.dtype
