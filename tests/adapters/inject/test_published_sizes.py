"""On the paper's own models, built without allocating memory, the presets have the published numbers of parameters."""

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedModel, RobertaConfig, RobertaModel

from harness.adapters.artifacts import adapter_config, tiny_base_shape
from headmix_adapters.inject import attach
from headmix_adapters.presets import PresetName, kernel_mix_sites, preset_ranks


def gpt2_small() -> PreTrainedModel:
    return GPT2LMHeadModel(GPT2Config())


def roberta_base() -> PreTrainedModel:
    return RobertaModel(RobertaConfig(vocab_size=50265, max_position_embeddings=514, type_vocab_size=1))


@pytest.mark.parametrize(
    ("preset", "model_type", "vocab_size", "parameters"),
    [("gpt2-nlg", "gpt2", 50257, 2_009_088), ("roberta-nlu", "roberta", 50265, 608_256)],
)
def test_a_preset_trains_the_published_number_of_parameters_on_the_real_dimensions(
    preset: PresetName, model_type: str, vocab_size: int, parameters: int
) -> None:
    sizes = {"hidden_size": 768, "num_layers": 12, "num_heads": 12, "num_kv_heads": 12, "head_dim": 64}
    base = tiny_base_shape(model_type=model_type, vocab_size=vocab_size, **sizes)
    with torch.device("meta"):
        model = gpt2_small() if model_type == "gpt2" else roberta_base()
        adapter = attach(model, adapter_config(base, kernel_mix_sites(preset_ranks(preset))))
    assert sum(parameter.numel() for parameter in adapter.parameters()) == parameters
    assert all(parameter.is_meta for parameter in model.parameters())
