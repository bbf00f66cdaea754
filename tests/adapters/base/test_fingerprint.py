"""The fingerprint identifies the weights: it ignores how they are split into files, and differs for other weights."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from harness.bases.model_folder import random_weights
from headmix_adapters.base.errors import BaseError
from headmix_adapters.base.fingerprint import fingerprint


def saved(folder: Path, *parts: dict[str, torch.Tensor]) -> str:
    folder.mkdir()
    files = [folder / f"{index}.safetensors" for index in range(len(parts))]
    for path, part in zip(files, parts, strict=True):
        save_file(part, path, metadata={"format": "pt"})
    return fingerprint(files)


def test_how_the_weights_are_spread_over_files_does_not_matter(tmp_path: Path) -> None:
    weights = random_weights()
    names = sorted(weights)
    whole = saved(tmp_path / "whole", weights)
    split = saved(tmp_path / "split", *({name: weights[name]} for name in reversed(names)))
    assert whole == split
    assert whole.startswith("sha256:")
    assert len(whole) == 71


@pytest.mark.parametrize("position", [0, -1])
def test_a_change_of_the_first_or_last_number_shows(tmp_path: Path, position: int) -> None:
    changed = random_weights()
    changed["model.embed_tokens.weight"].view(-1)[position] += 1
    assert saved(tmp_path / "a", random_weights()) != saved(tmp_path / "b", changed)


def test_every_number_of_a_small_tensor_counts(tmp_path: Path) -> None:
    prints = {saved(tmp_path / "same", random_weights())}
    for index in range(0, 1024, 100):
        changed = random_weights()
        changed["model.layers.0.self_attn.q_proj.weight"].view(-1)[index] += 1
        prints.add(saved(tmp_path / str(index), changed))
    assert len(prints) == 12


def test_name_dtype_and_shape_count(tmp_path: Path) -> None:
    weights = random_weights()
    norm = weights.pop("model.norm.weight")
    prints = {
        saved(tmp_path / "same", weights | {"model.norm.weight": norm}),
        saved(tmp_path / "name", weights | {"model.norm2.weight": norm}),
        saved(tmp_path / "dtype", weights | {"model.norm.weight": norm.view(torch.float16)}),
        saved(tmp_path / "shape", weights | {"model.norm.weight": norm.view(4, 8)}),
    }
    assert len(prints) == 4


def test_a_tensor_in_two_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BaseError, match=r"1\.safetensors: tensor model.norm.weight is in another weight file too"):
        saved(tmp_path / "twice", random_weights(), {"model.norm.weight": torch.ones(1)})


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file(random_weights(), path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(BaseError, match=r"model\.safetensors: the file is truncated"):
        fingerprint([path])
