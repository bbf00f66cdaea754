"""A converted folder's matrices are found in its GGUF file as stored, kept next to the folder's, and change nothing."""

import os
from collections.abc import Mapping
from pathlib import Path

import gguf
import numpy as np
import pytest
from safetensors.numpy import load_file

from harness.bases.gguf_files import write_tiny_gguf
from headmix_adapters.base.fingerprint import fingerprint
from headmix_adapters.base.gguf import stored_tensors
from headmix_adapters.base.gguf.convert import convert
from headmix_adapters.base.gguf.stored_tensors import FILE, StoredTensor, find_stored_tensors, read_stored_tensors
from headmix_adapters.base.weight_files import weight_files

KINDS = {"attn_q": "Q4_0", "attn_v": "F16", "ffn_up": "F32", "ffn_down": "BF16", "token_embd": "Q8_0", "": "Q4_1"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stored")
    write_tiny_gguf(folder / "tiny.gguf", kinds=KINDS)
    convert(folder / "tiny.gguf", folder / "out")
    return folder


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    """A copy of the folder, for a test to change."""
    (tmp_path / "out").mkdir()
    os.link(made / "tiny.gguf", tmp_path / "tiny.gguf")
    os.link(made / "out" / "model.safetensors", tmp_path / "out" / "model.safetensors")
    return tmp_path


def same(one: Mapping[str, StoredTensor], other: Mapping[str, StoredTensor]) -> bool:
    return one.keys() == other.keys() and all(
        one[name].kind == other[name].kind and np.array_equal(one[name].rows, other[name].rows) for name in one
    )


def test_every_matrix_is_found_in_the_folders_order_of_rows(made: Path) -> None:
    weights = load_file(made / "out" / "model.safetensors")
    found = find_stored_tensors(made / "tiny.gguf", made / "out")
    narrow = {name for name, tensor in weights.items() if tensor.ndim > 1 and "up_proj" not in name}
    assert found.keys() == narrow
    for name, tensor in found.items():
        unpacked = gguf.dequantize(tensor.rows, gguf.GGMLQuantizationType[tensor.kind])
        assert np.array_equal(unpacked, weights[name])
    assert {found[f"model.layers.0.self_attn.{which}_proj.weight"].kind for which in "qkvo"} == {"Q4_0", "Q4_1", "F16"}


def test_a_matrix_that_is_another_is_not_taken_for_it(copy: Path) -> None:
    write_tiny_gguf(copy / "other.gguf", kinds=KINDS, seed=1)
    assert find_stored_tensors(copy / "other.gguf", copy / "out") == {}


def test_a_file_of_float32_stores_nothing_otherwise(tmp_path: Path) -> None:
    write_tiny_gguf(tmp_path / "plain.gguf")
    convert(tmp_path / "plain.gguf", tmp_path / "out")
    assert read_stored_tensors(tmp_path / "plain.gguf", tmp_path / "out") == {}


def test_they_are_looked_for_once_and_the_base_stays_the_same(copy: Path) -> None:
    before = fingerprint(weight_files(copy / "out"))
    first = read_stored_tensors(copy / "tiny.gguf", copy / "out")
    assert fingerprint(weight_files(copy / "out")) == before
    again = read_stored_tensors(copy / "gone.gguf", copy / "out")
    assert first
    assert same(first, again)


@pytest.mark.parametrize("content", [b"", b"torn"])
def test_a_broken_file_is_rebuilt(copy: Path, content: bytes) -> None:
    (copy / "out" / FILE).write_bytes(content)
    first = read_stored_tensors(copy / "tiny.gguf", copy / "out")
    assert same(first, read_stored_tensors(copy / "gone.gguf", copy / "out"))


def test_another_releases_file_is_rebuilt(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(stored_tensors, "VERSION", "0")
        read_stored_tensors(copy / "tiny.gguf", copy / "out")
    with pytest.raises(FileNotFoundError):
        read_stored_tensors(copy / "gone.gguf", copy / "out")
    assert read_stored_tensors(copy / "tiny.gguf", copy / "out")


def test_where_the_folder_cannot_be_written_they_are_found_all_the_same(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(stored_tensors, "save_file", refuse)
    assert read_stored_tensors(copy / "tiny.gguf", copy / "out")
    assert [path.name for path in (copy / "out").iterdir() if path.suffix != ".lock"] == ["model.safetensors"]
