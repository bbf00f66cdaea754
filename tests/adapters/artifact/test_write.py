"""What is written can be read back, writes are all or nothing, and the same input gives the same digest."""

import hashlib
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.adapters.artifacts import (
    adapter_config,
    classifier_config,
    random_artifact,
    random_tensors,
    tiny_base_shape,
)
from headmix_adapters.artifact import ArtifactError, digest_file, open_artifact, verify_artifact
from headmix_adapters.artifact.load import load_tensors
from headmix_adapters.artifact.write import write_artifact
from headmix_adapters.config import AdapterConfig, HeadPart, SharedPart, SiteConfig, Sites
from headmix_adapters.printable import printable
from headmix_adapters.sites import num_parameters

BASE = tiny_base_shape()
DTYPES = (torch.bfloat16, torch.float16, torch.float32, torch.float64)

ranks = st.integers(1, 5)
scales = st.floats(-4, 4).filter(lambda scale: abs(scale) > 1e-30)
words = st.text(max_size=5).filter(lambda text: printable(text, lines=True) == text)
shared_parts = st.none() | st.builds(SharedPart, rank=ranks, scale=scales)


def head_parts(*bases: str) -> st.SearchStrategy[HeadPart | None]:
    return st.none() | st.builds(HeadPart, rank=ranks, base=st.sampled_from(bases), scale=scales, bias=st.booleans())


def site_configs(*bases: str) -> st.SearchStrategy[SiteConfig | None]:
    sites = st.builds(SiteConfig, head=head_parts(*bases) if bases else st.none(), shared=shared_parts)
    return st.none() | sites.filter(lambda site: site.head is not None or site.shared is not None)


@st.composite
def configs(draw: st.DrawFn) -> AdapterConfig:
    sites = st.builds(Sites, q=site_configs("x"), k=site_configs(), v=site_configs("k", "x"), o=site_configs("a"))
    classifier = draw(st.none() | st.builds(classifier_config, kind=st.sampled_from(["linear", "mlp-tanh"])))
    return adapter_config(
        BASE,
        draw(sites.filter(lambda sites: bool(sites.present()))),
        task="generation" if classifier is None else "classification",
        classifier=classifier,
        added_tokens=tuple(draw(st.lists(st.sampled_from(["<a>", "<b>", "ü 測"]), unique=True))),
        training=draw(st.dictionaries(words, st.integers(-5, 5) | words, max_size=3)),
    )


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(config=configs(), dtype=st.sampled_from(DTYPES), layers=st.sampled_from([(0,), (1,), (0, 1)]))
def test_whatever_is_written_verifies_and_comes_back(
    tmp_path: Path, config: AdapterConfig, dtype: torch.dtype, layers: tuple[int, ...]
) -> None:
    path = tmp_path / "adapter.safetensors"
    tensors = random_tensors(config, layers=layers)
    digest = write_artifact(path, config, tensors, dtype)
    artifact = verify_artifact(path, base=BASE)
    assert artifact == open_artifact(path)
    assert artifact.config == config
    assert artifact.layers == layers
    assert artifact.num_parameters == num_parameters(config, layers)
    assert artifact.size_bytes == path.stat().st_size
    assert digest == digest_file(path) == "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()
    loaded = load_tensors(path)
    assert loaded.keys() == tensors.keys()
    assert all(torch.equal(loaded[name], tensor.to(dtype)) for name, tensor in tensors.items())


def test_the_digest_depends_on_the_content_and_not_on_the_order_of_the_tensors(tmp_path: Path) -> None:
    config = adapter_config(BASE)
    tensors = random_tensors(config)
    turned = dict(reversed(tensors.items()))
    assert write_artifact(tmp_path / "a", config, tensors) == write_artifact(tmp_path / "b", config, turned)
    assert write_artifact(tmp_path / "c", config, random_tensors(config, seed=1)) != digest_file(tmp_path / "a")


def test_the_digest_of_a_given_adapter_never_changes(tmp_path: Path) -> None:
    digest = write_artifact(tmp_path / "a", adapter_config(BASE), _ramp(adapter_config(BASE)))
    assert digest == "sha256:b98f9b30225f51253a8066f5dd95d500bf0be86c8d072de3679af64f44076195"


def _ramp(config: AdapterConfig) -> dict[str, torch.Tensor]:
    """Values that do not depend on torch's random generator."""
    shapes = {name: tensor.shape for name, tensor in random_tensors(config).items()}
    return {name: torch.arange(shape.numel()).reshape(shape) % 7 - 3.0 for name, shape in shapes.items()}


def test_tensors_that_are_not_the_configs_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    config = adapter_config(BASE)
    tensors = random_tensors(config)
    del tensors["layers.0.q.head.A"]
    tensors |= {"lm_head": torch.ones(1), "layers.1.q.head.bias": torch.ones(32)}
    with pytest.raises(ArtifactError) as caught:
        write_artifact(tmp_path / "a", config, tensors)
    assert [str(fault) for fault in caught.value.faults] == [
        "layers.0.q.head.A: missing",
        "layers.1.q.head.bias: its shape is [32], not [4, 8]",
        "lm_head: extra: the config does not ask for it",
    ]
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.safetensors"
    digest = random_artifact(path, BASE)

    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        random_artifact(path, BASE, seed=1)
    assert [file.name for file in tmp_path.iterdir()] == ["a.safetensors"]
    assert digest_file(path) == digest


def test_tied_and_strided_tensors_are_written_as_they_look(tmp_path: Path) -> None:
    config = adapter_config(BASE)
    tensors = random_tensors(config)
    tensors["layers.1.q.shared.A"] = tensors["layers.0.q.shared.A"]
    tensors["layers.0.o.shared.B"] = torch.randn(8, 32).T[:, :1]
    tensors["layers.0.q.head.A"].requires_grad_()
    write_artifact(tmp_path / "a", config, tensors, torch.float32)
    loaded = load_tensors(tmp_path / "a")
    assert all(torch.equal(loaded[name], tensor) for name, tensor in tensors.items())
