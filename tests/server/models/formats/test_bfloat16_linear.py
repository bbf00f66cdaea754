"""A base in bfloat16 on a CPU: each form computes the reference, from the memory of a bfloat16 file."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from structlog.testing import capture_logs
from torch import Tensor
from transformers import PreTrainedModel

from harness.bases.families import FAMILIES
from headmix_server.kernels.native.build import find_compiler
from headmix_server.kernels.stored.bfloat16 import Unit, available_units
from headmix_server.models.formats import choose_format as choices
from headmix_server.models.formats.bfloat16_linear import rounded_linear
from headmix_server.models.formats.choose_format import choose_format, choose_unit
from headmix_server.models.formats.linear import PlainLinear
from headmix_server.models.formats.linear_format import BFloat16Format, LinearFormat, PlainFormat, RoundedFormat
from headmix_server.models.formats.stored_linear import StoredLinear
from headmix_server.models.layers.token_table import TokenTable
from headmix_server.models.loading.registry import load_model
from headmix_server.models.model import Model
from tests.server.models.test_families import run_chunked, run_whole, texts
from tests.support.device.tensor_bytes import tensor_bytes

needs_compiler = pytest.mark.skipif(find_compiler() is None, reason="no C++ compiler on this machine")
WIDE = {"hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 4, "tie_word_embeddings": True}


class ReferenceFormat(PlainFormat):
    """Rounds the weights when a base is loaded and the inputs in each product, then multiplies in float32."""

    def linear(self, weight: Tensor, bias: Tensor | None = None) -> PlainLinear:
        return RoundedInputs(weight.bfloat16().float(), bias)

    def table(self, rows: Tensor) -> TokenTable:
        return super().table(rows.bfloat16().float())


class RoundedInputs(PlainLinear):
    def __call__(self, x: Tensor) -> Tensor:
        return super().__call__(x.bfloat16().float())


def forms() -> Mapping[str, LinearFormat]:
    """Return every form this machine has, by name."""
    if find_compiler() is None:
        return {"torch": RoundedFormat()}
    native = {str(unit.name): BFloat16Format(unit) for unit in available_units()}
    return {"torch": RoundedFormat(), "float32": BFloat16Format(None), **native}


def run(model: Model) -> list[Tensor]:
    return run_chunked(model) if model.generates else run_whole(model, texts())


def transformers_results(oracle: PreTrainedModel) -> list[Tensor]:
    results = []
    for prompt in texts():
        with torch.inference_mode():
            output = oracle(input_ids=torch.tensor([prompt]))
        results.append(output.logits[0] if "logits" in output else output.last_hidden_state[0])
    return results


def distance(results: list[Tensor], expected: list[Tensor]) -> float:
    pairs = list(zip(results, expected, strict=True))
    return sum(float((one.float() - other).norm()) for one, other in pairs)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_form_is_nearer_to_float32_than_transformers_in_bfloat16(tmp_path: Path, name: str) -> None:
    oracle = FAMILIES[name].make(tmp_path)
    exact = transformers_results(oracle)
    theirs = distance(transformers_results(oracle.bfloat16()), exact)
    for form in forms().values():
        assert distance(run(load_model(tmp_path, torch.float32, form)), exact) <= theirs, form


@needs_compiler
@pytest.mark.parametrize("name", FAMILIES)
def test_the_processors_units_compute_the_reference(tmp_path: Path, name: str) -> None:
    FAMILIES[name].make(tmp_path)
    expected = run(load_model(tmp_path, torch.float32, ReferenceFormat()))
    for unit in available_units():
        found = run(load_model(tmp_path, torch.float32, BFloat16Format(unit)))
        for one, other in zip(found, expected, strict=True):
            # sums of another order may round to another bfloat16 in the next product
            assert (one - other).norm() < 5e-3 * other.norm()


@pytest.mark.parametrize("name", ["torch", "float32", "AVX512_BF16", "AMX"])
def test_a_base_takes_at_most_1_25_times_its_bfloat16_file(tmp_path: Path, name: str) -> None:
    if name not in forms():
        pytest.skip("not on this machine")
    FAMILIES["llama"].make(tmp_path, WIDE)
    path = tmp_path / "model.safetensors"
    save_file({key: tensor.bfloat16() for key, tensor in load_file(path).items()}, path, {"format": "pt"})
    taken = tensor_bytes(load_model(tmp_path, torch.float32, forms()[name]))
    assert taken < 1.25 * path.stat().st_size


def test_without_native_kernels_torch_multiplies_and_the_log_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choices, "load_native", lambda: False)
    with capture_logs() as events:
        form = choose_format(torch.bfloat16)
    assert isinstance(form, RoundedFormat)
    (event,) = [event for event in events if event["event"] == "bfloat16 products"]
    assert (event["by"], event["reason"]) == ("torch", "there are no native kernels on this machine")
    weight, x = torch.randn(24, 33), torch.randn(5, 33)
    x[1] = torch.nan
    found, expected = rounded_linear(weight)(x), x.bfloat16().float() @ weight.bfloat16().float().t()
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, atol=0.05, rtol=0.01, equal_nan=True)


@needs_compiler
def test_a_processor_without_units_multiplies_as_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choices, "available_units", lambda: Unit(0))
    with capture_logs() as events:
        form = choose_format(torch.bfloat16)
    (event,) = [event for event in events if event["event"] == "bfloat16 products"]
    assert event["by"] == "float32"
    assert isinstance(form.linear(torch.zeros(16, 32)), StoredLinear)


@needs_compiler
@pytest.mark.skipif(not available_units(), reason="this processor multiplies no bfloat16")
def test_amx_is_always_chosen_and_the_other_unit_unless_float32_is_clearly_faster(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for times, expected in (([1.4, 1.0], Unit.AVX512_BF16), ([1.6, 1.0], None)):  # 1.4: only the machine is busy
        monkeypatch.setattr(choices, "_best", lambda *_, times=times: times)
        assert choose_unit(Unit.AVX512_BF16) is expected
        assert choose_unit(Unit.AVX512_BF16 | Unit.AMX) is Unit.AMX
    assert choose_unit(Unit(0)) is None
