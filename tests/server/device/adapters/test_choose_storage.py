"""The setting chooses the adapter backend; an unavailable one is an error or, for auto, falls back to torch."""

import pytest
import torch

from harness.bases.tiny_model import tiny_shape
from headmix_server.device.adapters import choose_storage as storages
from headmix_server.device.adapters.choose_storage import AdapterKernels, NoKernelsError, make_storage
from headmix_server.device.adapters.image_storage import ImageStorage
from headmix_server.device.adapters.slot_storage import SlotStorage
from headmix_server.device.adapters.term_storage import TermStorage


@pytest.mark.parametrize(
    ("kernels", "there", "dtype", "expected"),
    [
        ("auto", True, torch.float32, ImageStorage),
        ("native", True, torch.float32, ImageStorage),
        ("torch", True, torch.float32, TermStorage),
        ("auto", False, torch.float32, TermStorage),
        ("auto", True, torch.bfloat16, TermStorage),
    ],
)
def test_the_fastest_that_can_be_had_is_taken(
    kernels: AdapterKernels,
    there: bool,
    dtype: torch.dtype,
    expected: type[SlotStorage],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(storages, "load_native", lambda: there)
    assert isinstance(make_storage(kernels, tiny_shape(), 2, dtype), expected)


@pytest.mark.parametrize(("there", "dtype"), [(False, torch.float32), (True, torch.bfloat16)])
def test_native_kernels_that_cannot_be_had_are_an_error_and_not_replaced(
    there: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storages, "load_native", lambda: there)
    with pytest.raises(NoKernelsError, match="native"):
        make_storage("native", tiny_shape(), 2, dtype)
