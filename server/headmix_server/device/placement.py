"""Where the engine computes and in which type: what the settings ask for against what the machine has."""

from dataclasses import dataclass
from typing import Literal

import torch

Dtype = Literal["auto", "float32", "bfloat16"]


class PlacementError(Exception):
    """The settings ask for what this machine or this torch does not have."""


@dataclass(frozen=True, slots=True)
class Placement:
    """The device of every tensor of the data side, and the type of its states and caches: what is not a matrix."""

    device: torch.device
    dtype: torch.dtype

    @property
    def on_cuda(self) -> bool:
        """Whether it is a GPU."""
        return self.device.type == "cuda"


def choose_placement(device: Literal["auto", "cpu", "cuda"], dtype: Dtype) -> Placement:
    """Choose as the settings say. On a CPU states are float32 in each: bfloat16 there is the matrices' alone.

    Raises:
        PlacementError: CUDA was asked for and is not there.
    """
    available = torch.cuda.is_available()
    if device == "cuda" and not available:
        build = f"has CUDA {torch.version.cuda} but finds no GPU" if torch.version.cuda else "is built without CUDA"
        raise PlacementError(f"--device cuda: torch {torch.__version__} {build}")
    cuda = available and device != "cpu"
    # the current device by its index: tensors say "cuda:0", and a device that said "cuda" would equal none of theirs
    chosen = torch.device("cuda", torch.cuda.current_device()) if cuda else torch.device("cpu")
    return Placement(chosen, torch.bfloat16 if cuda and dtype != "float32" else torch.float32)


def matrix_dtype(placement: Placement, dtype: Dtype) -> torch.dtype:
    """Return the type that the base's matrices are kept and multiplied in."""
    return torch.bfloat16 if dtype == "bfloat16" else placement.dtype
