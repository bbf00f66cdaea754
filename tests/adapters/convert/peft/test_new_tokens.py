"""Rows of added tokens come along where an artifact computes the same with them, and are refused where it can't."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from harness.adapters.peft_lora import RENAMED, load_model
from headmix_adapters.base import ResolvedBase
from headmix_adapters.convert.errors import ConvertError
from headmix_adapters.convert.result import save_converted
from headmix_adapters.convert.source import ConvertOptions, convert_source
from headmix_adapters.inject import load_adapter
from tests.adapters.convert.conftest import MakeBase

pytestmark = [
    pytest.mark.filterwarnings(RENAMED),
    pytest.mark.filterwarnings("ignore:.*tie_word_embeddings.*"),
    pytest.mark.filterwarnings("ignore:.*tied.*"),
    pytest.mark.filterwarnings("ignore:.*save_embedding_layers.*"),
]

SIZE = 512
NAMES = ("<x>", "<y>", "<z>")


def made(folder: Path, base: ResolvedBase, indices: object = None) -> PeftModel:
    """Draw every trained number of a PEFT model on a larger vocabulary, and save it."""
    inner = load_model(base, "CAUSAL_LM")
    inner.resize_token_embeddings(SIZE + len(NAMES), mean_resizing=False)
    config: dict[str, Any] = {} if indices is None else {"trainable_token_indices": indices}
    target = ["c_attn"] if base.shape.model_type == "gpt2" else ["q_proj"]
    transposed = base.shape.model_type == "gpt2"
    settings = LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=target, fan_in_fan_out=transposed, **config)
    model = get_peft_model(inner, settings)
    assert isinstance(model, PeftModel)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
        if indices is None:
            embedding = inner.get_input_embeddings().weight
            assert isinstance(embedding, torch.Tensor)
            embedding[SIZE:] = torch.randn(embedding[SIZE:].shape, generator=generator) * 0.3
    model.train(mode=False)
    model.save_pretrained(str(folder))
    return model


def answers(base: ResolvedBase, folder: Path, model: PeftModel) -> tuple[torch.Tensor, torch.Tensor]:
    converted = convert_source(folder, base, ConvertOptions(added_tokens=NAMES))
    assert converted.config.added_tokens == NAMES
    save_converted(converted, folder.parent / "out.safetensors")
    own: PreTrainedModel = load_model(base, "CAUSAL_LM")
    load_adapter(own, folder.parent / "out.safetensors")
    ids = torch.randint(5, SIZE + len(NAMES), (3, 12), generator=torch.Generator().manual_seed(5))
    ids[0, 2], ids[1, 4] = SIZE, SIZE + len(NAMES) - 1
    with torch.no_grad():
        return own(input_ids=ids).logits, model(input_ids=ids).logits


@pytest.mark.parametrize("model_type", ["qwen2", "gpt2", "gemma3_text"])
@pytest.mark.parametrize("indices", [[512, 513, 514], [514, 512, 513], None])
def test_added_rows_answer_as_in_peft_as_inputs_and_outputs(
    model_type: str, indices: list[int] | None, make_base: MakeBase, tmp_path: Path
) -> None:
    base = make_base(model_type)
    own, theirs = answers(base, tmp_path / "peft", made(tmp_path / "peft", base, indices))
    assert own.shape == theirs.shape
    torch.testing.assert_close(own, theirs, atol=1e-4, rtol=1e-4)


def test_names_come_from_the_saved_tokenizer(make_base: MakeBase, tmp_path: Path) -> None:
    base, folder = make_base("qwen2"), tmp_path / "peft"
    made(folder, base, {"embed_tokens": [512, 513, 514]})
    (folder / "added_tokens.json").write_text(json.dumps({"<y>": 513, "<x>": 512, "<z>": 514, "<old>": 3}))
    assert convert_source(folder, base).config.added_tokens == NAMES


def refusal(folder: Path, base: ResolvedBase, names: tuple[str, ...] = NAMES) -> str:
    with pytest.raises(ConvertError) as caught:
        convert_source(folder, base, ConvertOptions(added_tokens=names))
    return str(caught.value)


def test_rows_without_as_many_names_are_refused(make_base: MakeBase, tmp_path: Path) -> None:
    base = make_base("qwen2")
    made(tmp_path / "peft", base, [512, 513, 514])
    message = refusal(tmp_path / "peft", base, ("<x>",))
    assert message.startswith(
        "added_tokens: 3 rows lie beyond the base's vocabulary, and 1 tokens are named: name them"
    )


@pytest.mark.parametrize(
    ("indices", "message"),
    [
        ([5], "trainable_token_indices: token 5 is one of the base's 512: its trained row is not part of an artifact"),
        ([512, 514], "trainable_token_indices: token 513 has no row: added tokens follow the base's 512 without a gap"),
    ],
)
def test_rows_that_an_artifact_cannot_have_are_refused_by_their_token(
    indices: list[int], message: str, make_base: MakeBase, tmp_path: Path
) -> None:
    base, folder = make_base("qwen2"), tmp_path / "peft"
    made(folder, base, indices)
    path = folder / "adapter_model.safetensors"
    save_file({name: t for name, t in load_file(path).items() if "base_layer" not in name}, path)
    assert refusal(folder, base) == message


def test_an_untied_head_is_refused_since_it_has_rows_that_an_artifact_has_not(
    make_base: MakeBase, tmp_path: Path
) -> None:
    base = make_base("llama")
    made(tmp_path / "peft", base, [512, 513, 514])
    assert refusal(tmp_path / "peft", base).startswith("tie_word_embeddings: the base's output head is not tied")


def test_retrained_rows_of_the_base_in_a_whole_table_are_refused(make_base: MakeBase, tmp_path: Path) -> None:
    base, folder = make_base("qwen2"), tmp_path / "peft"
    made(folder, base)
    path = folder / "adapter_model.safetensors"
    tensors = load_file(path)
    tensors["base_model.model.model.embed_tokens.weight"][7] += 1
    save_file(tensors, path)
    assert "retrained rows of the base's vocabulary" in refusal(folder, base)


def test_a_head_whose_rows_are_not_those_of_the_embedding_is_refused(make_base: MakeBase, tmp_path: Path) -> None:
    base, folder = make_base("qwen2"), tmp_path / "peft"
    made(folder, base)
    path = folder / "adapter_model.safetensors"
    tensors = {name: tensor.clone() for name, tensor in load_file(path).items()}
    tensors["base_model.model.lm_head.weight"][513] += 1
    save_file(tensors, path)
    assert refusal(folder, base).startswith("lm_head: token 513 has another row there than in the input embedding")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("all", 'trainable_token_indices: "all" is not a list of token ids'),
        ([-1], "trainable_token_indices: [-1] is not a list of token ids"),
        ([512], "trainable_tokens_delta: its shape is [3, 32], trainable_token_indices names 1 tokens"),
        ({"wte": [512, 513, 514], "x": [1]}, "it names no tokens of model.embed_tokens, and the file has rows for it"),
    ],
)
def test_indices_that_do_not_fit_are_refused(value: object, message: str, make_base: MakeBase, tmp_path: Path) -> None:
    base, folder = make_base("qwen2"), tmp_path / "peft"
    made(folder, base, [512, 513, 514])
    config = folder / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"trainable_token_indices": value}))
    path = folder / "adapter_model.safetensors"
    save_file({name: t for name, t in load_file(path).items() if "lm_head" not in name}, path)
    assert message in refusal(folder, base)
