"""`headmix serve` with an adapter that adds tokens: over HTTP its words are read and generated as with transformers."""

from pathlib import Path

import httpx2
import pytest
import torch
from transformers import AutoModelForCausalLM

from harness.adapters.artifacts import random_artifact
from harness.adapters.mixed_sites import MIXED_SITES
from harness.bases.families import FAMILIES
from harness.exactness import Case, answer_by_transformers
from harness.server.running_server import running_server
from headmix_adapters.base import resolve_base
from headmix_server.text.tokenizer import load_tokenizer
from headmix_server.text.vocabulary.extended import ExtendedTokenizer

pytestmark = pytest.mark.slow

WORDS = ("<subject>", "<object>")
TEXT = "The <subject> jumps over"


def test_the_adapter_reads_and_writes_its_words_and_the_base_does_not_know_them(tmp_path: Path) -> None:
    FAMILIES["gpt2"].make(tmp_path / "gpt2")
    base = resolve_base(str(tmp_path / "gpt2"))
    adapter = tmp_path / "poet.safetensors"
    random_artifact(adapter, base.shape, MIXED_SITES[0], seed=3, scale=2.0, added_tokens=WORDS)
    plain = load_tokenizer(base.folder)
    own = ExtendedTokenizer(plain, WORDS, base.shape.vocab_size)
    model = AutoModelForCausalLM.from_pretrained(base.folder, dtype=torch.float32)
    with (
        running_server(tmp_path, base=base.folder, runner="torch", threads=1, kv_cache_mib=8) as server,
        httpx2.Client(base_url=server.base_url, headers=server.headers, timeout=60) as client,
    ):
        file = {"file": ("poet.safetensors", adapter.read_bytes())}
        assert client.post("/v1/adapters", data={"name": "poet"}, files=file).status_code == 201
        body = {"prompt": TEXT, "max_tokens": 12, "temperature": 0, "ignore_eos": True}
        for name, path, tokenizer in ((base.name, None, plain), ("poet", adapter, own)):
            answer = client.post("/v1/completions", json={"model": name, **body})
            assert answer.status_code == 200, answer.text
            expected = answer_by_transformers(model, Case(name, tokenizer.encode(TEXT), path, 12)).tokens
            assert answer.json()["choices"][0]["text"] == tokenizer.decode(expected)
            assert any(token >= base.shape.vocab_size for token in expected) == (path is not None)
