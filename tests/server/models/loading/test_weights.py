"""A checkpoint is loaded completely, whatever its files, names and precision, or refused."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from harness.bases.families import FAMILIES
from headmix_server.kernels.attention.torch_sdpa import WholeAttention
from headmix_server.models.config import UnsupportedModelError
from headmix_server.models.loading.registry import load_model
from headmix_server.models.model import Model
from tests.support.device.spans import whole_texts

WEIGHTS = "model.safetensors"


@torch.inference_mode()
def states(model: Model) -> torch.Tensor:
    """Return some hidden states; the kind of attention does not matter for the comparison here."""
    tokens = torch.arange(20, 33)
    return model.forward(tokens, torch.arange(13), WholeAttention(whole_texts([13])), None)


def test_a_sharded_checkpoint_is_read_whole(tmp_path: Path) -> None:
    oracle = FAMILIES["llama"].make(tmp_path / "one")
    oracle.save_pretrained(tmp_path / "many", max_shard_size="20KB")
    assert len(list((tmp_path / "many").glob("*.safetensors"))) > 1
    one, many = (load_model(tmp_path / folder, torch.float32) for folder in ("one", "many"))
    assert torch.equal(states(one), states(many))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_precisions_are_computed_in_float32(tmp_path: Path, dtype: torch.dtype) -> None:
    FAMILIES["llama"].make(tmp_path)
    tensors = {name: tensor.to(dtype) for name, tensor in load_file(tmp_path / WEIGHTS).items()}
    save_file({name: tensor.float() for name, tensor in tensors.items()}, tmp_path / WEIGHTS)
    expected = states(load_model(tmp_path, torch.float32))
    save_file(tensors, tmp_path / WEIGHTS)
    actual = states(load_model(tmp_path, torch.float32))
    assert actual.dtype == torch.float32
    assert torch.equal(actual, expected)


def test_a_checkpoint_with_a_missing_unknown_or_quantised_tensor_is_refused(tmp_path: Path) -> None:
    FAMILIES["llama"].make(tmp_path)
    tensors = load_file(tmp_path / WEIGHTS)
    save_file(tensors | {"model.layers.0.self_attn.q_norm.weight": torch.ones(12)}, tmp_path / WEIGHTS)
    with pytest.raises(UnsupportedModelError, match="q_norm"):
        load_model(tmp_path, torch.float32)
    name = "model.layers.1.mlp.up_proj.weight"
    save_file({n: t for n, t in tensors.items() if n != name}, tmp_path / WEIGHTS)
    with pytest.raises(UnsupportedModelError, match=r"lacks layers\.1\.mlp\.up_proj\.weight"):
        load_model(tmp_path, torch.float32)
    save_file(tensors | {name: tensors[name].to(torch.int8)}, tmp_path / WEIGHTS)
    with pytest.raises(UnsupportedModelError, match="int8; plain weights are served"):
        load_model(tmp_path, torch.float32)
    save_file(tensors | {name: tensors[name][1:].clone()}, tmp_path / WEIGHTS)
    with pytest.raises(UnsupportedModelError, match=r"has shape \(47, 32\), expected \(48, 32\)"):
        load_model(tmp_path, torch.float32)


@pytest.mark.parametrize(("name", "prefix"), [("bert", "bert."), ("roberta", "roberta."), ("gpt2", "transformer.")])
def test_names_with_and_without_the_prefix_of_a_head_model_are_the_same(tmp_path: Path, name: str, prefix: str) -> None:
    FAMILIES[name].make(tmp_path)
    tensors = {n.removeprefix(prefix): t for n, t in load_file(tmp_path / WEIGHTS).items()}
    save_file(tensors, tmp_path / WEIGHTS)
    bare = states(load_model(tmp_path, torch.float32))
    save_file({prefix + n: t for n, t in tensors.items()}, tmp_path / WEIGHTS)
    assert torch.equal(states(load_model(tmp_path, torch.float32)), bare)


def test_what_older_checkpoints_hold_besides_their_weights_is_left_out(tmp_path: Path) -> None:
    """TensorFlow's names of norms, position ids, pooler and pre-training heads in BERT; causal masks in GPT-2."""
    FAMILIES["bert"].make(tmp_path / "bert")
    FAMILIES["gpt2"].make(tmp_path / "gpt2")
    expected = [states(load_model(tmp_path / name, torch.float32)) for name in ("bert", "gpt2")]
    tensors = {
        "bert." + n.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): t
        for n, t in load_file(tmp_path / "bert" / WEIGHTS).items()
    }
    extra = {
        "bert.embeddings.position_ids": torch.arange(130)[None],
        "cls.predictions.bias": torch.zeros(512),
        "cls.seq_relationship.weight": torch.zeros(2, 32),
    }
    save_file(tensors | extra, tmp_path / "bert" / WEIGHTS)
    masks = {f"transformer.h.{layer}.attn.bias": torch.ones(1, 1, 256, 256).tril() for layer in range(3)}
    save_file(load_file(tmp_path / "gpt2" / WEIGHTS) | masks, tmp_path / "gpt2" / WEIGHTS)
    actual = [states(load_model(tmp_path / name, torch.float32)) for name in ("bert", "gpt2")]
    for one, other in zip(actual, expected, strict=True):
        assert torch.equal(one, other)


def test_an_untied_head_must_be_in_the_checkpoint_and_a_tied_one_may_be(tmp_path: Path) -> None:
    FAMILIES["llama"].make(tmp_path)
    tensors = load_file(tmp_path / WEIGHTS)
    save_file({n: t for n, t in tensors.items() if n != "lm_head.weight"}, tmp_path / WEIGHTS)
    with pytest.raises(UnsupportedModelError, match=r"lacks lm_head\.weight"):
        load_model(tmp_path, torch.float32)
    FAMILIES["llama"].make(tmp_path, {"tie_word_embeddings": True})
    tensors = load_file(tmp_path / WEIGHTS)
    save_file(tensors | {"lm_head.weight": tensors["model.embed_tokens.weight"].clone()}, tmp_path / WEIGHTS)
    assert load_model(tmp_path, torch.float32).tied_head
