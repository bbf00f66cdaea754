"""A loaded base takes the memory of its format and little more; the memory the checkpoint was read into is freed."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from harness.bases.families import FAMILIES
from headmix_server.kernels.quantize import quantize_rows
from headmix_server.models.config import UnsupportedModelError
from headmix_server.models.formats.choose_format import choose_format
from headmix_server.models.formats.linear import PlainLinear
from headmix_server.models.formats.linear_format import Int8Format, LinearFormat, PackedFormat, PlainFormat
from headmix_server.models.formats.packed_linear import PackedLinear
from headmix_server.models.loading.registry import load_model
from tests.support.device.tensor_bytes import tensor_bytes

MODULE = "headmix_server.models.formats.choose_format"
LARGEST = 1.3
TIED: Mapping[str, Any] = {"tie_word_embeddings": True}


def parameters(folder: Path) -> int:
    return sum(tensor.numel() for tensor in load_file(folder / "model.safetensors").values())


@pytest.mark.parametrize("form", [PlainFormat(), PackedFormat()], ids=["plain", "packed"])
@pytest.mark.parametrize("name", FAMILIES)
def test_a_float_base_takes_at_most_1_3_times_its_weights(tmp_path: Path, name: str, form: LinearFormat) -> None:
    FAMILIES[name].make(tmp_path)
    taken, expected = tensor_bytes(load_model(tmp_path, torch.float32, form)), 4 * parameters(tmp_path)
    assert 0.9 * expected < taken < LARGEST * expected


@pytest.mark.parametrize("name", ["llama", "bert"])
def test_an_int8_base_takes_at_most_1_3_bytes_a_weight(tmp_path: Path, name: str) -> None:
    """Wide enough that scales and norms, which stay in float32, are the small part they are in real bases."""
    wide = {"hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 6}
    FAMILIES[name].make(tmp_path, {**wide, **(TIED if name == "llama" else {})})
    taken = tensor_bytes(load_model(tmp_path, torch.float32, Int8Format(quantize_rows)))
    assert 0.9 * parameters(tmp_path) < taken < LARGEST * parameters(tmp_path)


@pytest.mark.parametrize("layers", [1, 40])
def test_a_tied_table_is_held_twice_only_in_a_base_that_dwarfs_it(tmp_path: Path, layers: int) -> None:
    FAMILIES["llama"].make(tmp_path, {**TIED, "num_hidden_layers": layers})
    numbers = parameters(tmp_path)
    rows = torch.randn(512, 32)
    table, head = PackedFormat().tied(rows, numbers)
    assert isinstance(head, PackedLinear if layers == 40 else PlainLinear)
    taken = tensor_bytes(load_model(tmp_path, torch.float32, PackedFormat()))
    assert taken < LARGEST * 4 * numbers
    assert torch.equal(table(torch.tensor([7])), rows[7:8])


def test_a_base_keeps_no_hold_of_its_file(tmp_path: Path) -> None:
    """Overwriting a running server's file with garbage must change nothing: no tensor is a view of it."""
    FAMILIES["gpt2"].make(tmp_path)
    model = load_model(tmp_path, torch.float32)
    before = tensor_bytes(model)
    path = tmp_path / "model.safetensors"
    length = path.stat().st_size
    with path.open("r+b") as file:
        file.write(b"\xff" * length)
    assert tensor_bytes(model) == before
    assert model.logits(torch.ones(1, model.config.hidden_size)).isfinite().all()
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "gpt2"


def test_float32_is_packed_on_a_cpu_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(choose_format(torch.float32, device=torch.device("cuda")), PlainFormat)
    monkeypatch.setattr(f"{MODULE}._best", lambda *_: [1.4, 1.0])  # packed, plain: only the machine is busy
    assert isinstance(choose_format(torch.float32), PackedFormat)


def test_where_packing_fails_errs_or_is_slower_products_are_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(weight: torch.Tensor) -> PackedLinear:
        raise RuntimeError("no oneDNN in this build")

    with monkeypatch.context() as patch:
        patch.setattr(f"{MODULE}.pack_linear", fail)
        assert isinstance(choose_format(torch.float32), PlainFormat)
    with monkeypatch.context() as patch:
        patch.setattr(f"{MODULE}.pack_linear", lambda weight: PlainLinear(weight * 1.01))
        assert isinstance(choose_format(torch.float32), PlainFormat)
    with monkeypatch.context() as patch:
        patch.setattr(f"{MODULE}._best", lambda *_: [1.6, 1.0])
        assert isinstance(choose_format(torch.float32), PlainFormat)


def test_int8_is_given_or_refused_never_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(choose_format(torch.float32, "int8"), Int8Format)
    with pytest.raises(UnsupportedModelError, match="quantize int8 is not served here: it computes in float32"):
        choose_format(torch.bfloat16, "int8")
    monkeypatch.setattr(f"{MODULE}.int8_linear", lambda weight, bias, _: PlainLinear(weight * 1.1, bias))
    with pytest.raises(UnsupportedModelError, match="products err by 10"):
        choose_format(torch.float32, "int8")
