"""8-bit projections by torchao, which computes them on the CPU too."""

import importlib.util
from pathlib import Path
from typing import Literal

import pytest
import torch

from harness.bases.families import FAMILIES
from headmix_server.models.config import UnsupportedModelError
from headmix_server.models.formats.choose_format import choose_format
from headmix_server.models.formats.linear import PlainLinear
from headmix_server.models.formats.linear_format import PlainFormat
from headmix_server.models.formats.torchao import TorchaoFormat
from headmix_server.models.loading.registry import load_model

CPU = torch.device("cpu")


def test_without_torchao_the_reason_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UnsupportedModelError, match=r"pip install 'headmix\[cuda\]'"):
        TorchaoFormat("int8", CPU)


def test_on_a_gpu_eight_bits_are_torchaos_and_float8_needs_one() -> None:
    pytest.importorskip("torchao")
    gpu = torch.device("cuda", 0)
    assert isinstance(choose_format(torch.bfloat16, "int8", gpu), TorchaoFormat)
    assert isinstance(choose_format(torch.bfloat16, "none", gpu), PlainFormat)
    with pytest.raises(UnsupportedModelError, match="fp8 is not served here: it needs a GPU"):
        choose_format(torch.float32, "fp8")


def test_float8_is_refused_on_a_gpu_that_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torchao")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    with pytest.raises(UnsupportedModelError, match=r"needs compute capability 8.9; this GPU has 8.0"):
        TorchaoFormat("fp8", torch.device("cuda", 0))


@pytest.mark.parametrize(("kind", "error"), [("int8", 0.01), ("fp8", 0.05)])
def test_a_projection_is_near_the_plain_one_in_half_the_bytes(kind: Literal["int8", "fp8"], error: float) -> None:
    pytest.importorskip("torchao")
    torch.manual_seed(0)
    weight, bias, x = torch.randn(96, 64).bfloat16(), torch.randn(96).bfloat16(), torch.randn(5, 64).bfloat16()
    quantised = TorchaoFormat(kind, CPU).linear(weight.clone(), bias)
    with torch.inference_mode():
        exact, found = PlainLinear(weight, bias)(x), quantised(x)
    assert found.dtype == torch.bfloat16
    assert float((found - exact).norm() / exact.norm()) < error
    assert not found.equal(exact)


def test_a_family_loads_in_eight_bits_with_its_table_and_tied_head_untouched(tmp_path: Path) -> None:
    pytest.importorskip("torchao")
    FAMILIES["llama"].make(tmp_path, {"tie_word_embeddings": True})
    plain = load_model(tmp_path, torch.float32)
    quantised = load_model(tmp_path, torch.float32, TorchaoFormat("int8", CPU))
    hidden = torch.randn(3, plain.config.hidden_size)
    with torch.inference_mode():
        assert plain.logits(hidden).equal(quantised.logits(hidden))
