"""Every family in the matrix computes what transformers computes, and reads every config field that matters."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from harness.bases.families import FAMILIES, VOCABULARY
from harness.bases.gguf_files import write_tiny_gguf
from headmix_adapters.base.gguf.convert import convert
from headmix_server.kernels.attention.torch_sdpa import PagedAttention, WholeAttention
from headmix_server.models.config import UnsupportedModelError
from headmix_server.models.formats.linear_format import LinearFormat, PackedFormat, PlainFormat
from headmix_server.models.loading.config_reader import INERT, ConfigReader
from headmix_server.models.loading.registry import SERVED, family_module, load_model
from headmix_server.models.loading.weights import Checkpoint
from headmix_server.models.model import Model
from tests.support.device.spans import Chunk, paged, whole_texts

TOLERANCE = 1e-4
LENGTHS = ((23, (5, 9, 6)), (4, (1, 2)), (11, (10,)), (17, (16,)))
"""The lengths of the texts, and the chunks each is computed in before the rest is decoded token by token."""


def texts() -> list[list[int]]:
    generator = torch.Generator().manual_seed(3)
    return [torch.randint(4, VOCABULARY, (length,), generator=generator).tolist() for length, _ in LENGTHS]


@torch.inference_mode()
def run_chunked(model: Model) -> list[torch.Tensor]:
    """Compute the texts together, each in its chunks and then by decode steps; return every text's logits."""
    config, places = model.config, 16 + sum(length for length, _ in LENGTHS)
    shape = (places, config.num_kv_heads, config.head_dim)
    caches = [(torch.zeros(shape), torch.zeros(shape)) for _ in range(config.num_layers)]
    free = torch.randperm(places, generator=torch.Generator().manual_seed(5)).tolist()
    owned = [free[16 + sum(n for n, _ in LENGTHS[:i]) :][:length] for i, (length, _) in enumerate(LENGTHS)]
    prompts = texts()
    logits: list[list[torch.Tensor]] = [[] for _ in prompts]
    done = [0] * len(prompts)
    for step in range(max(length for length, _ in LENGTHS)):
        chunks: list[Chunk] = []
        tokens: list[int] = []
        going: list[tuple[int, int]] = []
        for i, (length, counts) in enumerate(LENGTHS):
            count = counts[step] if step < len(counts) else 1
            count = min(count, length - done[i])
            if count:
                end = done[i] + count
                chunks.append(Chunk(done[i], count, owned[i]))
                tokens.extend(prompts[i][done[i] : end])
                going.append((i, end))
        if not chunks:
            break
        layout, table = paged(chunks, 1, places)
        attention = PagedAttention(caches, layout, table)
        hidden = model.forward(torch.tensor(tokens), layout.positions(), attention, None)
        parts = hidden.split_with_sizes([chunk.count for chunk in chunks])
        for (i, end), part in zip(going, parts, strict=True):
            logits[i].append(model.logits(part))
            done[i] = end
    return [torch.cat(rows) for rows in logits]


@torch.inference_mode()
def run_whole(model: Model, prompts: list[list[int]]) -> list[torch.Tensor]:
    """Compute the texts in one bidirectional step; return every text's hidden states."""
    layout = whole_texts([len(prompt) for prompt in prompts])
    tokens = torch.tensor([token for prompt in prompts for token in prompt])
    hidden = model.forward(tokens, layout.positions(), WholeAttention(layout), None)
    return list(hidden.split_with_sizes([len(prompt) for prompt in prompts]))


def assert_parity(model: Model, oracle: PreTrainedModel) -> None:
    prompts = texts()
    results = run_chunked(model) if model.generates else run_whole(model, prompts)
    for prompt, result in zip(prompts, results, strict=True):
        with torch.inference_mode():
            output = oracle(input_ids=torch.tensor([prompt]))
        expected = output.logits if model.generates else output.last_hidden_state
        torch.testing.assert_close(result, expected[0], atol=TOLERANCE, rtol=TOLERANCE)


def test_the_matrix_has_a_row_for_every_served_family() -> None:
    assert set(FAMILIES) == set(SERVED)


@pytest.mark.parametrize("form", [PlainFormat(), PackedFormat()], ids=["plain", "packed"])
@pytest.mark.parametrize("name", FAMILIES)
def test_chunked_prefill_and_decode_of_a_ragged_batch_are_transformers(
    tmp_path: Path, name: str, form: LinearFormat
) -> None:
    oracle = FAMILIES[name].make(tmp_path)
    model = load_model(tmp_path, torch.float32, form)
    assert model.generates == FAMILIES[name].causal
    assert_parity(model, oracle)


LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
VARIANTS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "llama tied": ("llama", {"tie_word_embeddings": True}),
    "llama multi-head": ("llama", {"num_key_value_heads": 4, "head_dim": 8}),
    "llama theta": ("llama", {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}}),
    "llama biases": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "llama gelu": ("llama", {"hidden_act": "gelu_pytorch_tanh"}),
    "llama rope linear": ("llama", {"rope_parameters": {"rope_type": "linear", "factor": 3.0, "rope_theta": 5000.0}}),
    "llama rope dynamic": ("llama", {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 5000.0}}),
    "llama rope llama3": (
        "llama",
        {"rope_parameters": LLAMA3 | {"original_max_position_embeddings": 32, "rope_theta": 5e5}},
    ),
    "llama rope yarn": (
        "llama",
        {
            "rope_parameters": {"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e4}
            | {"original_max_position_embeddings": 64}
        },
    ),
    "llama rope yarn in full": (
        "llama",
        {
            "rope_parameters": {"rope_type": "yarn", "factor": 8.0, "rope_theta": 1e5, "beta_fast": 16, "beta_slow": 2}
            | {"mscale": 0.7, "mscale_all_dim": 1.1, "truncate": False, "original_max_position_embeddings": 32}
        },
    ),
    "mistral without a window": ("mistral", {"sliding_window": None}),
    "qwen2 without windows": ("qwen2", {"use_sliding_window": False}),
    "qwen3 windows and biases": (
        "qwen3",
        {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 2, "attention_bias": True},
    ),
    "gemma3 long": (
        "gemma3_text",
        {
            "rope_parameters": {
                "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e5},
                "sliding_attention": {"rope_type": "default", "rope_theta": 500.0},
            }
        },
    ),
    "gpt2 inner": ("gpt2", {"n_inner": 40, "activation_function": "relu"}),
    "gpt2 scores by layer": ("gpt2", {"scale_attn_by_inverse_layer_idx": True, "scale_attn_weights": False}),
    "gpt2 untied": ("gpt2", {"tie_word_embeddings": False}),
    "bert gelu_new": ("bert", {"hidden_act": "gelu_new", "layer_norm_eps": 1e-5}),
    "roberta padding": ("roberta", {"pad_token_id": 5, "type_vocab_size": 3}),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_options_that_change_the_result_change_it_as_in_transformers(tmp_path: Path, variant: str) -> None:
    name, overrides = VARIANTS[variant]
    oracle = FAMILIES[name].make(tmp_path, overrides)
    assert_parity(load_model(tmp_path, torch.float32), oracle)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_field_transformers_has_for_a_family_is_read_or_known_to_change_nothing(
    tmp_path: Path, name: str
) -> None:
    family = FAMILIES[name]
    raw = family.config_class.from_dict({"vocab_size": VOCABULARY} | dict(family.config)).to_dict()
    reader = ConfigReader(raw)

    def stop(_: str) -> Checkpoint:
        raise UnsupportedModelError("config read")

    with pytest.raises(UnsupportedModelError, match="config read"):
        family_module(name).load(reader, stop)
    assert set(raw) - reader.seen - INERT == set()


def test_a_padding_token_inside_a_text_gets_the_position_transformers_gives_it(tmp_path: Path) -> None:
    oracle = FAMILIES["roberta"].make(tmp_path)
    prompts = [[7, 8, 9], [5, 1, 6, 1, 1, 9], [1, 4]]
    for prompt, states in zip(prompts, run_whole(load_model(tmp_path, torch.float32), prompts), strict=True):
        with torch.inference_mode():
            expected = oracle(input_ids=torch.tensor([prompt])).last_hidden_state[0]
        torch.testing.assert_close(states, expected, atol=TOLERANCE, rtol=TOLERANCE)


REFUSED: tuple[tuple[str, Mapping[str, Any], str], ...] = (
    ("llama", {"hidden_act": "mish"}, 'hidden_act="mish"'),
    ("llama", {"rope_parameters": {"rope_type": "longrope", "factor": 2.0}}, "rope scaling 'longrope'"),
    ("llama", {"rope_scaling": {"type": "mrope"}}, "rope scaling 'mrope'"),
    ("llama", {"rope_parameters": {"rope_type": "linear"}}, "unusable parameters: KeyError 'factor'"),
    ("llama", {"partial_rotary_factor": 0.5}, "partial_rotary_factor=0.5"),
    ("llama", {"rope_parameters": {"rope_theta": 1e4, "partial_rotary_factor": 0.5}}, "partial_rotary_factor=0.5"),
    ("llama", {"quantization_config": {"bits": 4}}, "quantization_config"),
    ("llama", {"num_hidden_layers": 0}, "num_hidden_layers=0"),
    ("llama", {"num_key_value_heads": 3}, "4 attention heads cannot share 3"),
    ("llama", {"attention_bias": "yes"}, 'attention_bias="yes"'),
    ("mistral", {"layer_types": ["sliding_attention"] * 3}, "layer_types"),
    ("qwen2", {"layer_types": ["full_attention", "chunked_attention", "full_attention"]}, "layer_types"),
    ("qwen3", {"layer_types": ["sliding_attention"] * 3}, "sliding_window of None"),
    ("gemma3_text", {"final_logit_softcapping": 30.0}, "final_logit_softcapping=30.0"),
    ("gemma3_text", {"attn_logit_softcapping": 50.0}, "attn_logit_softcapping=50.0"),
    ("gemma3_text", {"use_bidirectional_attention": True}, "use_bidirectional_attention=true"),
    ("gpt2", {"add_cross_attention": True}, "add_cross_attention=true"),
    ("gpt2", {"n_head": 5}, "not a multiple of 5 heads"),
    ("bert", {"is_decoder": True}, "is_decoder=true"),
    ("bert", {"position_embedding_type": "relative_key"}, "position_embedding_type"),
    ("roberta", {"max_position_embeddings": 2}, "leaves no position"),
    ("roberta", {"is_encoder_decoder": True}, "is_encoder_decoder=true"),
)


@pytest.mark.parametrize(("name", "fields", "reason"), REFUSED)
def test_what_is_not_computed_is_refused_by_field(
    tmp_path: Path, name: str, fields: Mapping[str, Any], reason: str
) -> None:
    family = FAMILIES[name]
    raw = family.config_class.from_dict({"vocab_size": VOCABULARY} | dict(family.config)).to_dict()
    (tmp_path / "config.json").write_text(json.dumps(raw | dict(fields)))
    with pytest.raises(UnsupportedModelError) as caught:
        load_model(tmp_path, torch.float32)
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("name", "field"),
    [("mistral", "sliding_window"), ("qwen3", "head_dim"), ("gemma3_text", "sliding_window"), ("gpt2", "n_positions")],
)
def test_a_field_whose_default_would_be_a_guess_must_be_given(tmp_path: Path, name: str, field: str) -> None:
    FAMILIES[name].make(tmp_path)
    path = tmp_path / "config.json"
    raw = json.loads(path.read_text())
    del raw[field]
    path.write_text(json.dumps(raw))
    with pytest.raises(UnsupportedModelError, match=f"lacks {field}"):
        load_model(tmp_path, torch.float32)


OLD_WORDS: tuple[tuple[str, Mapping[str, Any], Mapping[str, Any]], ...] = (
    (
        "llama",
        {"rope_theta": 5000.0, "rope_scaling": {"type": "linear", "factor": 2.0}},
        {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 5000.0}},
    ),
    (
        "gemma3_text",
        {"rope_theta": 2e5, "rope_local_base_freq": 700.0, "rope_scaling": {"rope_type": "linear", "factor": 4.0}}
        | {"sliding_window_pattern": 2},
        {
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
            "rope_parameters": {
                "full_attention": {"rope_type": "linear", "factor": 4.0, "rope_theta": 2e5},
                "sliding_attention": {"rope_type": "default", "rope_theta": 700.0},
            },
        },
    ),
    (
        "gpt2",
        {"hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 3, "max_position_embeddings": 256},
        {"n_embd": 32, "n_head": 4, "n_layer": 3, "n_positions": 256},
    ),
)


@pytest.mark.parametrize(("name", "old", "new"), OLD_WORDS)
def test_configs_in_the_words_of_older_releases_mean_the_same(
    tmp_path: Path, name: str, old: Mapping[str, Any], new: Mapping[str, Any]
) -> None:
    oracle = FAMILIES[name].make(tmp_path, new)
    path = tmp_path / "config.json"
    raw = {key: value for key, value in json.loads(path.read_text()).items() if key not in new}
    raw.pop("_sliding_window_pattern", None)
    path.write_text(json.dumps(raw | dict(old)))
    assert_parity(load_model(tmp_path, torch.float32), oracle)


def test_a_converted_gguf_file_computes_what_transformers_reads_from_it(tmp_path: Path) -> None:
    write_tiny_gguf(tmp_path / "tiny.gguf")
    convert(tmp_path / "tiny.gguf", tmp_path / "out")
    oracle = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="tiny.gguf", dtype=torch.float32)
    model = load_model(tmp_path / "out", torch.float32)
    tokens = torch.arange(3, 40)
    attention = PagedAttention(
        [(torch.zeros(40, 2, 8), torch.zeros(40, 2, 8)) for _ in range(2)],
        *paged([Chunk(0, 37, range(37))], 1, 40),
    )
    with torch.inference_mode():
        logits = model.logits(model.forward(tokens, torch.arange(37), attention, None))
        expected = oracle(tokens[None]).logits[0]
    torch.testing.assert_close(logits, expected, atol=TOLERANCE, rtol=TOLERANCE)
