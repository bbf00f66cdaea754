"""On the real runner, sequences that share cached prefixes get the same answers as without a prefix cache."""

from pathlib import Path

import pytest
import torch

from harness.adapters.artifacts import random_artifact
from harness.adapters.mixed_sites import MIXED_SITES
from harness.bases.tiny_model import make_tiny_llama
from harness.random_prompt import random_prompt
from headmix_adapters.base import resolve_base
from headmix_server.core.messages import Embed, Generate, Request
from headmix_server.core.settings.settings import Settings
from headmix_server.core.types import AdapterRef, EmbeddingParams, SamplingParams
from headmix_server.engine.cache.kv_cache import KVCache
from headmix_server.engine.loop import Engine
from headmix_server.llm.session import EngineSession, adapter_ref, build_engine

SHARED = 37
"""The tokens that all prompts begin with: not a multiple of a block."""


def settings(prefix_cache: str) -> Settings:
    """Return settings under which prompts are split into chunks."""
    return Settings.model_validate(
        {"base": "tiny", "max_batch_tokens": 24, "kv_cache_mib": 1, "block_size": 4, "prefix_cache": prefix_cache}
    )


def make_requests(refs: list[AdapterRef | None], vocab_size: int) -> list[Request]:
    beginning = random_prompt(SHARED, vocab_size, 0)
    requests: list[Request] = []
    for number in range(72):
        ref, tenant = refs[number // 6 % len(refs)], ("t", "u")[number % 3 // 2]
        prompt = [*beginning, *random_prompt(1 + 3 * number % 13, vocab_size, 100 + number % 9)]
        sampling = SamplingParams(
            max_tokens=12, temperature=0, logprobs=2, ignore_eos=True, prompt_logprobs=number % 6 == 5
        )
        requests.append(
            Generate(request_id=f"r{number}", tenant=tenant, prompt=prompt, adapter=ref, sampling=sampling)
            if number % 4
            else Embed(
                request_id=f"r{number}",
                tenant=tenant,
                prompt=prompt,
                adapter=ref,
                params=EmbeddingParams(pooling=("last", "mean", "cls")[number // 4 % 3], normalize=True),
            )
        )
    return requests


def answer(engine: Engine, requests: list[Request], *, together: int) -> EngineSession:
    """Submit a few at a time, each group a few steps after the previous."""
    session = EngineSession(engine)
    for start in range(0, len(requests), together):
        for request in requests[start : start + together]:
            session.submit(request)
        for _ in range(3):
            session.step()
            engine.check_integrity()
    session.drain()
    return session


def test_answers_over_cached_prefixes_are_those_without(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    make_tiny_llama(tmp_path / "base")
    base = resolve_base(str(tmp_path / "base"))
    refs: list[AdapterRef | None] = [None]
    for seed, sites in enumerate(MIXED_SITES):
        path = tmp_path / f"{seed}.safetensors"
        random_artifact(path, base.shape, sites, seed=seed, scale=0.3)
        refs.append(adapter_ref(path))
    requests = make_requests(refs, base.shape.vocab_size)
    cached, plain = build_engine(base, settings("on")), build_engine(base, settings("off"))
    cached.scheduler.kv_cache = KVCache(72, 4)  # few enough to be evicted
    with_cache, without = answer(cached, requests, together=2), answer(plain, requests, together=1)
    counts = cached.scheduler.take_prefix_counts()
    for engine in (cached, plain):
        engine.close()
    assert counts.hits > counts.queries / 3
    for request in requests:
        got, alone = with_cache.answers[request.request_id], without.answers[request.request_id]
        assert got.failure is alone.failure is None
        assert got.tokens == alone.tokens
        assert got.vector == pytest.approx(alone.vector, abs=1e-5)
        assert bool(got.tokens) == isinstance(request, Generate)
