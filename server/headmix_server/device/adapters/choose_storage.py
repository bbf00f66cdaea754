"""Which storage the slots use: the fastest that this machine can run, or the requested one."""

from typing import Literal

import torch

from headmix_adapters.config import BaseShape
from headmix_server.core.observability.logging import get_logger
from headmix_server.device.adapters.image_storage import ImageStorage
from headmix_server.device.adapters.slot_storage import SlotStorage
from headmix_server.device.adapters.term_storage import TermStorage
from headmix_server.kernels.adapters.native import NativeAdapters
from headmix_server.kernels.native.loading import load_native

AdapterKernels = Literal["auto", "native", "torch"]


class NoKernelsError(Exception):
    """The requested kernels are unavailable here."""


def make_storage(
    kernels: AdapterKernels, base: BaseShape, num_slots: int, dtype: torch.dtype, max_bytes: int | None = None
) -> SlotStorage:
    """Return empty slots for a base that computes in `dtype` on the CPU; `max_bytes` limits the memory for adapters.

    Raises:
        NoKernelsError: `native` was requested, but there is no library or it does not compute in `dtype`.
    """
    native = kernels != "torch" and dtype == torch.float32 and load_native()
    if kernels == "native" and not native:
        raise NoKernelsError("--adapter-kernels native: this machine has no native kernels for this base")
    get_logger("adapters").info("adapter kernels", kernels="native" if native else "torch", slots=num_slots)
    if native:
        return ImageStorage(base, num_slots, NativeAdapters, max_bytes)
    return TermStorage(base, num_slots, dtype, max_bytes)
