"""The fast reader for verified artifacts agrees with the safetensors library."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load

from harness.adapters.artifacts import adapter_config, container, edit_header, pack, random_tensors, tiny_base_shape
from headmix_adapters.artifact import ArtifactError, open_artifact
from headmix_adapters.artifact.parse import read_stored

CONFIG = adapter_config(tiny_base_shape())
BOOL = {"dtype": "BOOL", "shape": [0], "data_offsets": [0, 0]}


@pytest.mark.parametrize("pad", [0, 1, 5])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_it_reads_what_safetensors_and_the_strict_reader_do(dtype: torch.dtype, pad: int, tmp_path: Path) -> None:
    tensors = {name: tensor.to(dtype) for name, tensor in random_tensors(CONFIG).items()}
    tensors["layers.0.o.head.bias"] = tensors["layers.0.o.head.bias"].half()
    file = edit_header(pack(CONFIG, tensors), lambda header: header["__metadata__"].update(note="x" * pad))
    (tmp_path / "a").write_bytes(file)
    strict = open_artifact(tmp_path / "a")
    found = read_stored(bytearray(file))
    assert (found.config, found.layers) == (strict.config, strict.layers)
    expected = load(file)
    assert set(found.names()) == set(expected)
    for name, tensor in expected.items():
        assert found.dtype(name) == tensor.dtype
        assert torch.equal(found.tensor(name), tensor)


def test_alike_tensors_of_all_layers_are_one_view_and_unlike_ones_a_copy() -> None:
    tensors = random_tensors(CONFIG)
    names = ["layers.0.q.head.A", "layers.1.q.head.A"]
    found = read_stored(bytearray(pack(CONFIG, tensors)))
    expected = torch.stack([tensors[name] for name in names])
    assert torch.equal(found.stack(names), expected)
    assert found.stack(names).data_ptr() == found.tensor(names[0]).data_ptr()
    assert torch.equal(found.stack(names[::-1]), expected.flip(0))
    assert torch.equal(found.stack(names[:1]), expected[:1])
    mixed = read_stored(bytearray(pack(CONFIG, tensors | {names[0]: tensors[names[0]].half()})))
    assert torch.equal(mixed.stack(names)[0].half(), tensors[names[0]].half())
    assert torch.equal(mixed.stack(names)[1].float(), tensors[names[1]])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\x08", "exceeds the file's size"),
        ((1 << 40).to_bytes(8, "little"), "exceeds the file's size"),
        (container(b"[]"), "cannot be read"),
        (container(b"{}"), "cannot be read"),
        (container(b'{"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}'), "cannot be read"),
        (edit_header(pack(CONFIG, {}), lambda header: header.update(a=BOOL)), "BOOL"),
    ],
)
def test_what_is_no_artifact_is_refused(content: bytes, reason: str) -> None:
    with pytest.raises(ArtifactError, match=reason):
        read_stored(bytearray(content))
