"""The real Gemma 3 270M, converted from its package's GGUF file, answers as transformers does with the same weights."""

from pathlib import Path
from typing import get_args

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from harness.adapters.artifacts import random_artifact
from harness.exactness import Case, compare
from headmix_adapters.base import ResolvedBase, resolve_base
from headmix_adapters.base.gguf.stored_tensors import read_stored_tensors
from headmix_server.core.settings.settings import Settings
from headmix_server.llm.session import build_engine
from headmix_server.models.formats.choose_format import Weights
from headmix_server.text.tokenizer import load_tokenizer
from tests.support.real_gemma import require_gemma

pytestmark = [pytest.mark.slow, pytest.mark.gemma, pytest.mark.timeout(900)]

PROMPTS = (
    "The capital of France is",
    "Once upon a time, in a village by the sea,",
    "1, 2, 3, 4, 5, 6,",
    "def fibonacci(n):\n    if n < 2:\n        return",
    "The three primary colours are red,",
    "Der schnelle braune Fuchs springt",
    "Il était une fois",
    "日本の首都は",
    "Столица России —",
    "Dear Sir or Madam,\n\nI am writing to",
    "Q: What is the largest planet?\nA:",
    '{"name": "sparrow", "kind":',
    "SELECT name FROM users WHERE",
    "# A heading\n\n* one\n* two\n*",
    "To be, or not to be,",
    "Water boils at 100 degrees",
    "   three leading spaces, then",
    "tabs\tand\n\n\nnewlines",
    "e = mc",
    "The quick brown fox jumps over the lazy dog. " * 20,
)
TOKENS = 4


@pytest.fixture(scope="module")
def base() -> ResolvedBase:
    """Converted once for each machine."""
    return resolve_base(require_gemma())


@pytest.fixture(scope="module")
def oracle(base: ResolvedBase) -> PreTrainedModel:
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(base.folder, dtype=torch.float32)
    return model


def test_its_dimensions_and_ends_are_those_of_the_file(base: ResolvedBase) -> None:
    shape, tokenizer = base.shape, load_tokenizer(base.folder)
    assert (shape.model_type, shape.num_layers, shape.hidden_size, shape.head_dim) == ("gemma3_text", 18, 640, 256)
    assert shape.vocab_size == 262_144
    ends = {tokenizer.token_id("<eos>"), tokenizer.token_id("<end_of_turn>")}
    assert tokenizer.eos_ids == ends


@pytest.mark.parametrize("weights", [name for name in get_args(Weights) if name != "auto"])
def test_twenty_prompts_continue_as_with_transformers(
    base: ResolvedBase, oracle: PreTrainedModel, tmp_path: Path, weights: str
) -> None:
    tokenizer = load_tokenizer(base.folder)
    cases = [Case(text[:20], tokenizer.encode(text), None, TOKENS) for text in PROMPTS]
    adapter = tmp_path / "random.safetensors"
    random_artifact(adapter, base.shape, seed=3, scale=2 * base.shape.hidden_size**-0.5)
    cases += [Case("adapter", cases[0].prompt, adapter, TOKENS)]
    engine = build_engine(base, Settings(base=base.name, max_batch_tokens=128, kv_cache_mib=64, weights=weights))
    verdict = compare(engine, oracle, cases)
    engine.close()
    assert verdict.wrong == ()
    assert verdict.forgiven <= 1


def test_its_matrices_stay_as_the_file_stores_them(base: ResolvedBase) -> None:
    assert base.gguf is not None
    stored = read_stored_tensors(base.gguf, base.folder)
    matrices = 7 * base.shape.num_layers + 1
    assert len(stored) == matrices
    assert {tensor.kind for tensor in stored.values()} <= {"Q4_K", "Q5_0", "Q6_K", "Q8_0"}


def test_its_tokenizer_reads_texts_as_transformers_reads_the_file(base: ResolvedBase) -> None:
    assert base.gguf is not None
    own = load_tokenizer(base.folder)
    theirs = AutoTokenizer.from_pretrained(base.gguf.parent, gguf_file=base.gguf.name)
    for text in (*PROMPTS, "<start_of_turn>user\nHi<end_of_turn>\n"):
        assert own.encode(text) == theirs(text).input_ids
        assert own.decode(own.encode(text)[1:], skip_special_tokens=False) == text
