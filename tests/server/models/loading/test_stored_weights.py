"""A base kept as its checkpoint stores it computes the same as unpacked, with no more memory than its file."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from structlog.testing import capture_logs

from harness.bases.families import FAMILIES
from harness.bases.gguf_files import write_tiny_gguf
from headmix_adapters.base import ResolvedBase, resolve_base
from headmix_server.kernels.native.build import find_compiler
from headmix_server.kernels.native.loading import load_native
from headmix_server.models.config import UnsupportedModelError
from headmix_server.models.formats import choose_format as choices
from headmix_server.models.formats.choose_format import Quantize, Weights
from headmix_server.models.formats.linear_format import StoredFormat
from headmix_server.models.loading.registry import load_model
from headmix_server.models.loading.stored_weights import choose_weights
from headmix_server.models.model import Model
from tests.server.models.loading.test_weights import states
from tests.server.models.test_families import run_chunked, run_whole, texts
from tests.support.device.tensor_bytes import tensor_bytes

pytestmark = pytest.mark.skipif(find_compiler() is None, reason="no C++ compiler on this machine")
CPU = torch.device("cpu")
KINDS = {"attn_q": "Q4_0", "attn_v": "F16", "ffn_down": "BF16", "token_embd": "Q8_0", "": "Q4_1"}


@pytest.fixture(autouse=True, scope="module")
def native_kernels() -> None:
    assert load_native()


@pytest.fixture(scope="module")
def quantised(tmp_path_factory: pytest.TempPathFactory) -> ResolvedBase:
    folder = tmp_path_factory.mktemp("gguf")
    write_tiny_gguf(folder / "tiny.gguf", kinds=KINDS)
    return resolve_base(str(folder / "tiny.gguf"), cache_dir=folder / "cache")


def load(base: ResolvedBase, weights: Weights) -> Model:
    form, stored = choose_weights(base, weights, torch.float32, "none", CPU)
    return load_model(base.folder, torch.float32, form, CPU, stored)


def narrow(folder: Path, dtype: torch.dtype) -> ResolvedBase:
    """Store a folder's weights in 16 bits."""
    path = folder / "model.safetensors"
    save_file({name: tensor.to(dtype) for name, tensor in load_file(path).items()}, path, {"format": "pt"})
    return resolve_base(str(folder))


def assert_same(one: Model, other: Model) -> None:
    """Compare logits of prefill and decode, or an encoder's states."""
    results = [run_chunked(model) if model.generates else run_whole(model, texts()) for model in (one, other)]
    for result, expected in zip(*results, strict=True):
        torch.testing.assert_close(result, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", FAMILIES)
def test_a_base_of_16_bits_computes_what_it_computes_unpacked(tmp_path: Path, name: str, dtype: torch.dtype) -> None:
    FAMILIES[name].make(tmp_path)
    base = narrow(tmp_path, dtype)
    assert_same(load(base, "stored"), load(base, "float32"))


def test_a_gguf_file_computes_what_it_computes_unpacked(quantised: ResolvedBase) -> None:
    one, other = load(quantised, "stored"), load(quantised, "float32")
    hidden = states(one)
    torch.testing.assert_close(hidden, states(other), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(one.logits(hidden), other.logits(hidden), atol=1e-5, rtol=1e-5)


def test_a_base_of_16_bits_takes_at_most_1_25_times_its_file(tmp_path: Path) -> None:
    wide = {"hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 4, "tie_word_embeddings": True}
    FAMILIES["llama"].make(tmp_path, wide)
    base = narrow(tmp_path, torch.bfloat16)
    assert tensor_bytes(load(base, "stored")) < 1.25 * (tmp_path / "model.safetensors").stat().st_size


def test_a_float32_base_is_unpacked_whatever_is_asked_for(tmp_path: Path) -> None:
    FAMILIES["llama"].make(tmp_path)
    base = resolve_base(str(tmp_path))
    for wanted in ("auto", "stored", "float32"):
        form, stored = choose_weights(base, wanted, torch.float32, "none", CPU)
        assert not isinstance(form, StoredFormat)
        assert stored == {}


def test_auto_keeps_what_is_stored_unless_that_is_slower_and_says_why(
    quantised: ResolvedBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    for slow in ("", "they take 9 us where PackedLinear takes 3"):
        monkeypatch.setattr(choices, "_stored_slowness", lambda slow=slow: slow)
        with capture_logs() as events:
            form, stored = choose_weights(quantised, "auto", torch.float32, "none", CPU)
        assert isinstance(form, StoredFormat) == (not slow)
        assert bool(stored) == (not slow)
        (event,) = [event for event in events if event["event"] == "weights"]
        assert event["kept"] == ("unpacked" if slow else "stored")
        assert event["kinds"] == ["BF16", "F16", "Q4_0", "Q4_1", "Q8_0"]
        assert slow in event["reason"]


@pytest.mark.parametrize(
    ("wanted", "dtype", "quantize", "reason"),
    [
        ("stored", torch.float32, "int8", "--weights stored is not served here: --quantize int8 changes them"),
        ("stored", torch.bfloat16, "none", "--weights stored is not served here: --dtype bfloat16 keeps every"),
        ("float32", torch.bfloat16, "none", "--weights float32 is not served here: --dtype bfloat16 keeps every"),
    ],
)
def test_what_cannot_be_had_is_refused_by_name(
    quantised: ResolvedBase, wanted: Weights, dtype: torch.dtype, quantize: Quantize, reason: str
) -> None:
    with pytest.raises(UnsupportedModelError, match=reason):
        choose_weights(quantised, wanted, dtype, quantize, CPU)


def test_on_a_gpu_and_without_native_kernels_stored_is_refused(
    quantised: ResolvedBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UnsupportedModelError, match="it computes on a CPU, not on cuda"):
        choose_weights(quantised, "stored", torch.float32, "none", torch.device("cuda"))
    monkeypatch.setattr(choices, "load_native", lambda: False)
    with pytest.raises(UnsupportedModelError, match="no native kernels"):
        choose_weights(quantised, "stored", torch.float32, "none", CPU)
    form, stored = choose_weights(quantised, "auto", torch.float32, "none", CPU)
    assert not isinstance(form, StoredFormat)
    assert stored == {}


def test_in_bfloat16_auto_keeps_every_matrix_so(quantised: ResolvedBase) -> None:
    with capture_logs() as events:
        form, stored = choose_weights(quantised, "auto", torch.bfloat16, "none", CPU)
    assert (form.name, stored) == ("bfloat16", {})
    (event,) = [event for event in events if event["event"] == "weights"]
    assert (event["kept"], event["reason"]) == ("bfloat16", "--dtype bfloat16 keeps every matrix in bfloat16")


def test_with_int8_auto_leaves_the_choice_to_it(quantised: ResolvedBase) -> None:
    form, stored = choose_weights(quantised, "auto", torch.float32, "int8", CPU)
    assert (form.name, stored) == ("int8", {})


def test_a_gguf_file_that_is_gone_is_an_error_only_where_it_was_asked_for(
    quantised: ResolvedBase, tmp_path: Path
) -> None:
    (tmp_path / "model.safetensors").hardlink_to(quantised.folder / "model.safetensors")
    base = ResolvedBase(quantised.name, tmp_path, quantised.shape, tmp_path / "gone.gguf")
    with pytest.raises(UnsupportedModelError, match=r"gone\.gguf cannot be read"):
        choose_weights(base, "stored", torch.float32, "none", CPU)
    assert choose_weights(base, "auto", torch.float32, "none", CPU)[1] == {}
