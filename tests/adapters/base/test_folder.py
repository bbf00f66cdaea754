"""A base's dimensions are read from its folder with every family's names; an error says what a folder lacks."""

from pathlib import Path
from typing import Any

import pytest

from harness.bases.model_folder import write_model_folder
from headmix_adapters.base import BaseError, read_base_shape


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, ("llama", 32, 2, 4, 2, 8, 64)),
        ({"head_dim": 16}, ("llama", 32, 2, 4, 2, 16, 64)),
        ({"num_key_value_heads": None, "model_type": "bert"}, ("bert", 32, 2, 4, 4, 8, 64)),
        (
            {"model_type": "gpt2", "n_embd": 48, "n_layer": 3, "n_head": 6, "hidden_size": None}
            | {"num_hidden_layers": None, "num_attention_heads": None, "num_key_value_heads": None},
            ("gpt2", 48, 3, 6, 6, 8, 64),
        ),
    ],
)
def test_the_dimensions_are_read_in_every_familys_words(
    tmp_path: Path, config: dict[str, Any], expected: tuple[str | int, ...]
) -> None:
    shape = read_base_shape("tiny", write_model_folder(tmp_path, **config))
    sizes = (shape.hidden_size, shape.num_layers, shape.num_heads, shape.num_kv_heads, shape.head_dim, shape.vocab_size)
    assert (shape.model_type, *sizes) == expected
    assert shape.name == "tiny"


def test_the_mlps_width_is_given_where_the_config_has_it(tmp_path: Path) -> None:
    gated = read_base_shape("a", write_model_folder(tmp_path / "a", intermediate_size=48))
    assert (gated.intermediate_size, gated.gated_mlp) == (48, True)
    plain = read_base_shape("b", write_model_folder(tmp_path / "b", model_type="gpt2", n_inner=None))
    assert (plain.intermediate_size, plain.gated_mlp) == (4 * plain.hidden_size, False)
    assert read_base_shape("c", write_model_folder(tmp_path / "c")).intermediate_size == 0


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"hidden_size": None}, "config.json has no hidden_size"),
        ({"num_hidden_layers": 0}, "num_hidden_layers is 0, not a positive integer"),
        ({"vocab_size": "64"}, "vocab_size is '64', not a positive integer"),
        ({"num_key_value_heads": 3}, "4 attention heads cannot share 3 key/value heads"),
        ({"model_type": None}, "config.json has no model_type"),
    ],
)
def test_an_odd_config_is_refused_by_field(tmp_path: Path, config: dict[str, Any], message: str) -> None:
    with pytest.raises(BaseError, match=message):
        read_base_shape("tiny", write_model_folder(tmp_path, **config))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("config.json", "has no config.json: it is not a model folder"),
        ("tokenizer.json", "has no tokenizer.json"),
        ("model.safetensors", "has neither model.safetensors nor model.safetensors.index.json"),
    ],
)
def test_a_missing_file_is_named(tmp_path: Path, name: str, message: str) -> None:
    (write_model_folder(tmp_path) / name).unlink()
    with pytest.raises(BaseError, match=message):
        read_base_shape("tiny", tmp_path)


def test_pickled_weights_are_never_read(tmp_path: Path) -> None:
    folder = write_model_folder(tmp_path)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(BaseError, match="its weights are pickle files, which are never read"):
        read_base_shape("tiny", folder)


def test_a_config_that_is_not_json_is_refused(tmp_path: Path) -> None:
    (write_model_folder(tmp_path) / "config.json").write_text("{")
    with pytest.raises(BaseError, match=r"config\.json cannot be read"):
        read_base_shape("tiny", tmp_path)


def test_weights_under_another_name_in_the_config_are_refused(tmp_path: Path) -> None:
    """transformers would load that file, but everything else would load `model.safetensors`."""
    with pytest.raises(BaseError, match=r"transformers_weights is 'other.safetensors'"):
        read_base_shape("tiny", write_model_folder(tmp_path, transformers_weights="other.safetensors"))
