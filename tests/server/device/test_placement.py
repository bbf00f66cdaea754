import pytest
import torch

from headmix_server.device.placement import Placement, PlacementError, choose_placement, matrix_dtype


def test_without_a_gpu_auto_is_the_cpu_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_placement("auto", "auto") == Placement(torch.device("cpu"), torch.float32)
    assert choose_placement("cpu", "float32") == Placement(torch.device("cpu"), torch.float32)


def test_in_bfloat16_on_a_cpu_states_stay_float32_and_matrices_do_not() -> None:
    placement = choose_placement("cpu", "bfloat16")
    assert placement == Placement(torch.device("cpu"), torch.float32)
    assert matrix_dtype(placement, "bfloat16") == torch.bfloat16
    assert {matrix_dtype(placement, "auto"), matrix_dtype(placement, "float32")} == {torch.float32}


def test_with_a_gpu_auto_is_that_gpu_by_index_in_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    assert choose_placement("auto", "auto") == Placement(torch.device("cuda", 1), torch.bfloat16)
    assert choose_placement("cuda", "float32") == Placement(torch.device("cuda", 1), torch.float32)
    assert choose_placement("cpu", "auto") == Placement(torch.device("cpu"), torch.float32)


@pytest.mark.parametrize(("build", "reason"), [(None, "built without CUDA"), ("13.0", "finds no GPU")])
def test_cuda_that_is_not_there_is_refused_with_the_reason(
    build: str | None, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", build)
    with pytest.raises(PlacementError, match=reason):
        choose_placement("cuda", "auto")
