"""One function decides which files are a base's weights, and everything that reads weights uses it."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from harness.adapters.peft_lora import RENAMED, random_peft_lora
from harness.bases.families import FAMILIES
from harness.bases.model_folder import random_weights, write_model_folder
from headmix_adapters.base import BaseError, read_base_shape, resolve_base, weight_files
from headmix_adapters.convert.checkpoint import BaseCheckpoint
from headmix_adapters.train.prepare import load_model
from headmix_server.kernels.attention.torch_sdpa import WholeAttention
from headmix_server.models.loading.registry import load_model as load_served_model
from tests.support.device.spans import whole_texts

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
STRAYS = (
    "consolidated.safetensors",
    "model.fp16.safetensors",
    "adapter_model.safetensors",
    "model-00001-of-00002.safetensors",
    "a.safetensors",
)


def write_index(folder: Path, weight_map: object) -> None:
    (folder / INDEX).write_text(json.dumps({"weight_map": weight_map}))


def split_weights(folder: Path) -> tuple[Path, ...]:
    """Replace the single file with two shards and an index."""
    held_before = load_file(folder / SINGLE)
    (folder / SINGLE).unlink()
    names = sorted(held_before)
    parts = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for file, held in parts.items():
        save_file({name: held_before[name] for name in held}, folder / file)
    write_index(folder, {name: file for file, held in parts.items() for name in held})
    return tuple(folder / file for file in parts)


@pytest.mark.parametrize("stray", STRAYS)
@pytest.mark.parametrize("content", [b"not weights", None])
def test_a_stray_file_beside_the_weights_changes_nothing(tmp_path: Path, stray: str, content: bytes | None) -> None:
    folder = write_model_folder(tmp_path)
    before = read_base_shape("tiny", folder)
    if content is None:
        save_file(random_weights(1), folder / stray)
    else:
        (folder / stray).write_bytes(content)
    assert weight_files(folder) == (folder / SINGLE,)
    assert read_base_shape("tiny", folder) == before


def test_how_tensors_are_spread_over_files_is_no_part_of_the_base(tmp_path: Path) -> None:
    folder = write_model_folder(tmp_path)
    before = read_base_shape("tiny", folder)
    shards = split_weights(folder)
    assert weight_files(folder) == shards
    assert read_base_shape("tiny", folder) == before
    (folder / "model.safetensors.index.fp16.json").write_text("{}")
    save_file(random_weights(1), folder / "model-00003-of-00003.safetensors")
    assert weight_files(folder) == shards
    assert read_base_shape("tiny", folder) == before


def test_an_index_that_names_the_single_file_is_no_second_set(tmp_path: Path) -> None:
    folder = write_model_folder(tmp_path)
    write_index(folder, {"a": SINGLE, "b": SINGLE})
    assert weight_files(folder) == (folder / SINGLE,)


def test_an_index_whose_shards_are_gone_is_ignored_beside_a_single_file(tmp_path: Path) -> None:
    """Saving a small model over a large one leaves the index; transformers reads the single file."""
    folder = write_model_folder(tmp_path)
    write_index(folder, {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"})
    save_file(random_weights(1), folder / "model-00001-of-00002.safetensors")
    assert weight_files(folder) == (folder / SINGLE,)


def test_two_complete_sets_of_weights_are_refused(tmp_path: Path) -> None:
    folder = write_model_folder(tmp_path / "a")
    split_weights(folder)
    save_file(random_weights(1), folder / SINGLE)
    with pytest.raises(BaseError, match=r"has two sets of weights, model\.safetensors and the 2 files"):
        weight_files(folder)


@pytest.mark.parametrize(
    ("weight_map", "message"),
    [
        ({"a": "../other/model.safetensors"}, "which is not a plain file name"),
        ({"a": "model-2.safetensors"}, "names model-2.safetensors, which is not in the folder"),
        ({"a": "model-2.safetensors", "b": SINGLE}, "names model-2.safetensors, which is not in the folder"),
        ({}, "has no weight_map"),
        ([], "has no weight_map"),
    ],
)
def test_an_index_cannot_lead_outside_or_nowhere(tmp_path: Path, weight_map: object, message: str) -> None:
    folder = write_model_folder(tmp_path)
    if not isinstance(weight_map, dict) or SINGLE not in weight_map.values():
        (folder / SINGLE).unlink()
    write_index(folder, weight_map)
    with pytest.raises(BaseError, match=message):
        weight_files(folder)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("adapter_model.safetensors", "is an adapter, not a base"),
        ("consolidated.safetensors", "consolidated.safetensors is not read"),
        ("pytorch_model.bin", "its weights are pickle files, which are never read"),
    ],
)
def test_the_error_for_a_folder_without_weights_says_what_it_has_instead(
    tmp_path: Path, name: str, message: str
) -> None:
    folder = write_model_folder(tmp_path)
    (folder / SINGLE).rename(folder / name)
    with pytest.raises(BaseError, match=message):
        weight_files(folder)


def test_the_links_of_a_hub_cache_are_files_and_a_dangling_one_is_missing(tmp_path: Path) -> None:
    folder = write_model_folder(tmp_path / "snapshots" / "1")
    before = read_base_shape("tiny", folder)
    blobs = tmp_path / "blobs"
    blobs.mkdir()
    for path in list(folder.iterdir()):
        path.rename(blobs / path.name)
        path.symlink_to(blobs / path.name)
    assert read_base_shape("tiny", folder) == before
    (blobs / SINGLE).unlink()
    with pytest.raises(BaseError, match="has neither"):
        weight_files(folder)


@pytest.mark.filterwarnings(RENAMED)
@pytest.mark.parametrize("family", ["llama", "bert"])
@pytest.mark.parametrize("sharded", [False, True])
def test_fingerprint_serving_training_and_conversion_read_the_same_tensors(
    tmp_path: Path, family: str, sharded: bool
) -> None:
    """Even next to other models' files and an adapter that transformers would attach by itself."""
    FAMILIES[family].make(tmp_path)
    base = resolve_base(str(tmp_path))
    trained, served = tensors(load_model(base, torch.float32)), hidden(tmp_path)
    projection = "self_attn.q_proj" if family == "llama" else "attention.self.query"
    random_peft_lora(tmp_path, base, task_type=None, target_modules=[projection.rsplit(".", maxsplit=1)[-1]])
    if sharded:
        split_weights(tmp_path)
    for stray in STRAYS:
        if not (tmp_path / stray).exists():
            save_file(random_weights(1), tmp_path / stray)
    assert resolve_base(str(tmp_path)).shape == base.shape
    assert torch.equal(hidden(tmp_path), served)
    again = tensors(load_model(base, torch.float32))
    assert again.keys() == trained.keys()
    assert all(torch.equal(again[name], trained[name]) for name in trained)
    name = f"{'layers' if family == 'llama' else 'encoder.layer'}.1.{projection}.weight"
    assert torch.equal(BaseCheckpoint(tmp_path).read(name), trained["model." * (family == "llama") + name])


def tensors(model: Any) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = model.state_dict()
    return state


@torch.inference_mode()
def hidden(folder: Path) -> torch.Tensor:
    """Return the final hidden states of some tokens, computed with the base as it is served."""
    model = load_served_model(folder, torch.float32)
    return model.forward(torch.arange(20, 33), torch.arange(13), WholeAttention(whole_texts([13])), None)
