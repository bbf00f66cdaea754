"""The parts of a GPU runner, as far as they can be chosen without a GPU."""

import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from structlog.testing import capture_logs

from harness.adapters.artifacts import tiny_base_shape
from headmix_server.device.cuda import build as cuda_parts
from headmix_server.device.cuda.build import attention_backend, find_flashinfer, make_cuda_storage
from headmix_server.device.placement import Placement, PlacementError
from headmix_server.kernels.attention.backend import TORCH

CPU = Placement(torch.device("cpu"), torch.bfloat16)


class Wrapper:
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.args, self.kwargs = args, kwargs


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    module = SimpleNamespace(BatchPrefillWithPagedKVCacheWrapper=Wrapper, __spec__=object())
    monkeypatch.setitem(sys.modules, "flashinfer", module)
    monkeypatch.setattr(cuda_parts, "WORKSPACE_BYTES", 64)


@pytest.mark.usefixtures("installed")
def test_flashinfer_is_chosen_where_it_has_kernels_for_the_heads_and_the_type() -> None:
    with capture_logs() as lines:
        library = find_flashinfer(128, CPU)
        assert library is not None
        assert attention_backend(library).name == "flashinfer"
        assert find_flashinfer(12, CPU) is None
        assert find_flashinfer(128, Placement(torch.device("cpu"), torch.float32)) is None
    taken, *refused = lines
    assert taken["by"] == "flashinfer"
    assert ["12" in refused[0]["reason"], "float32" in refused[1]["reason"]] == [True, True]


def test_without_flashinfer_torch_attends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with capture_logs() as lines:
        assert find_flashinfer(128, CPU) is None
        assert attention_backend(None) is TORCH
    missing, taken = lines
    assert "not installed" in missing["reason"]
    assert taken["by"] == "torch"


@pytest.mark.usefixtures("installed")
def test_layers_of_one_kind_share_a_wrapper_and_all_wrappers_the_workspace() -> None:
    library = find_flashinfer(64, CPU)
    assert library is not None
    full: Any = library.prefill_wrapper((0.1, None))
    again, sliding = library.prefill_wrapper((0.1, None)), library.prefill_wrapper((0.1, 16))
    assert again is full
    assert sliding is not full
    assert sliding.args[0] is full.args[0]  # type: ignore[attr-defined]


def test_adapters_on_a_gpu_without_triton_are_refused_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(PlacementError, match=r"pip install 'headmix\[cuda\]'"):
        make_cuda_storage(tiny_base_shape(), 2, 1, 8, CPU)
