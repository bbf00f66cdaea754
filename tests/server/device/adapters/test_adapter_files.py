"""What is read from disk is the requested artifact, or an error that says why not."""

from pathlib import Path

import msgspec
import pytest
import torch

from harness.adapters.artifacts import classifier_config, random_artifact
from harness.bases.tiny_model import tiny_shape
from headmix_adapters.artifact import digest_file
from headmix_adapters.artifact.parse import read_stored
from headmix_server.core.runner import AdapterLoadError
from headmix_server.core.types import AdapterRef
from headmix_server.device.adapters import adapter_files
from headmix_server.device.adapters.adapter_files import load_adapter

BASE = tiny_shape()


def reference_to(path: Path, digest: str | None = None, base: str = BASE.fingerprint) -> AdapterRef:
    digest = digest or digest_file(path)
    return AdapterRef(digest=digest, base=base, path=str(path), name="a", version=1, tenant="t")


def test_an_artifact_is_loaded_with_what_lies_outside_its_layers(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    digest = random_artifact(path, BASE, classifier=classifier_config(), added_tokens=("<a>",))
    adapter = load_adapter(reference_to(path), BASE)
    assert adapter.digest == digest
    assert set(adapter.rest) == {"classifier.out_proj.weight", "classifier.out_proj.bias", "added_tokens.embedding"}
    original = read_stored(bytearray(path.read_bytes()))
    for name, tensor in adapter.rest.items():
        assert torch.equal(tensor, original.tensor(name))
        assert tensor.untyped_storage().nbytes() == tensor.nbytes  # it does not keep the file's bytes in memory
    assert adapter.image.layers == (0, 1, 2)


def test_a_missing_file_is_distinguished(tmp_path: Path) -> None:
    with pytest.raises(AdapterLoadError, match="missing") as caught:
        load_adapter(reference_to(tmp_path / "a", "sha256:0"), BASE)
    assert caught.value.missing


def test_bytes_that_are_not_those_of_the_digest_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a"
    digest = random_artifact(path, BASE)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(AdapterLoadError, match="damaged") as caught:
        load_adapter(reference_to(path, digest), BASE)
    assert not caught.value.missing


def test_an_adapter_of_a_base_with_other_dimensions_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a"
    random_artifact(path, msgspec.structs.replace(BASE, vocab_size=7, num_layers=4))
    with pytest.raises(AdapterLoadError, match=r"num_layers, vocab_size"):
        load_adapter(reference_to(path), BASE)


def test_a_file_that_shrinks_while_it_is_read_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    random_artifact(path, BASE)
    reference = reference_to(path)

    class Longer(bytearray):
        def __init__(self, size: int) -> None:
            super().__init__(size + 1)

    monkeypatch.setattr(adapter_files, "bytearray", Longer, raising=False)
    with pytest.raises(AdapterLoadError, match="shrank"):
        load_adapter(reference, BASE)


def test_an_adapter_that_was_accepted_for_other_weights_is_refused_before_its_file_is_read(tmp_path: Path) -> None:
    with pytest.raises(AdapterLoadError, match=rf"accepted for the base other, but this engine has {BASE.fingerprint}"):
        load_adapter(reference_to(tmp_path / "a", "sha256:0", base="other"), BASE)


def test_an_adapter_whose_header_names_other_weights_is_loaded_where_it_was_accepted_for_these(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    digest = random_artifact(path, msgspec.structs.replace(BASE, fingerprint="other"))
    assert load_adapter(reference_to(path), BASE).digest == digest
