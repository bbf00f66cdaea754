from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from headmix_server.kernels.attention import Span, plan_attention
from headmix_server.models.config import UnsupportedModelError
from headmix_server.models.registry import load_model
from tests.support.tiny_model import make_tiny_llama


@pytest.mark.parametrize(
    "overrides",
    [{}, {"tie_word_embeddings": False}, {"num_key_value_heads": 4, "head_dim": 8}, {"rope_theta": 500.0}],
    ids=["grouped-query", "untied head", "multi-head", "rope theta"],
)
def test_logits_are_those_of_transformers(tmp_path: Path, overrides: dict[str, object]) -> None:
    oracle = make_tiny_llama(tmp_path, overrides)
    model = load_model(tmp_path, torch.float32)
    tokens = torch.randint(0, 512, (23,), generator=torch.Generator().manual_seed(3))
    config = model.config
    caches = [(torch.zeros(32, config.num_kv_heads, config.head_dim),) * 2 for _ in range(config.num_layers)]
    caches = [(k.clone(), v.clone()) for k, v in caches]
    plan = plan_attention([Span(0, 23, 0, torch.arange(23))], torch.float32)
    with torch.inference_mode():
        logits = model.logits(model.forward(tokens, torch.arange(23), caches, plan, None))
        expected = oracle(tokens[None]).logits[0]
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)


def test_a_sharded_checkpoint_is_read_whole(tmp_path: Path) -> None:
    model = make_tiny_llama(tmp_path / "one")
    model.save_pretrained(tmp_path / "many", max_shard_size="20KB")
    assert len(list((tmp_path / "many").glob("*.safetensors"))) > 1
    load_model(tmp_path / "many", torch.float32)


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        ({"attention_bias": True}, "attention_bias"),
        ({"hidden_act": "gelu"}, "hidden_act"),
        ({"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0}}, "rope scaling 'linear'"),
    ],
)
def test_what_is_not_computed_is_refused_with_the_reason(
    tmp_path: Path, overrides: dict[str, object], reason: str
) -> None:
    make_tiny_llama(tmp_path, overrides)
    with pytest.raises(UnsupportedModelError, match=reason):
        load_model(tmp_path, torch.float32)


def test_a_checkpoint_with_a_missing_or_unknown_tensor_is_refused(tmp_path: Path) -> None:
    make_tiny_llama(tmp_path)
    path = tmp_path / "model.safetensors"
    tensors = load_file(path)
    save_file(tensors | {"model.layers.0.self_attn.q_norm.weight": torch.ones(12)}, path)
    with pytest.raises(UnsupportedModelError, match="q_norm"):
        load_model(tmp_path, torch.float32)
    save_file({n: t for n, t in tensors.items() if n != "model.layers.1.mlp.up_proj.weight"}, path)
    with pytest.raises(UnsupportedModelError, match=r"lacks model\.layers\.1\.mlp\.up_proj\.weight"):
        load_model(tmp_path, torch.float32)


def test_an_unknown_family_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "mamba"}')
    with pytest.raises(UnsupportedModelError, match="'mamba' is not served"):
        load_model(tmp_path, torch.float32)
