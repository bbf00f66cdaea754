"""The whole data path on a tiny model: a mixed, staggered batch answers like each request alone and transformers."""

from pathlib import Path

import torch

from harness.bases.tiny_model import make_tiny_llama
from harness.exactness import answer_together, compare, make_cases
from headmix_adapters.base import resolve_base
from headmix_server.core.settings.settings import Settings
from headmix_server.engine.cache.kv_cache import KVCache
from headmix_server.llm.session import build_engine


def test_a_mixed_staggered_batch_answers_as_each_request_alone_and_as_transformers(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    oracle = make_tiny_llama(tmp_path / "base")
    base = resolve_base(str(tmp_path / "base"))
    settings = Settings(base="tiny", max_batch_tokens=40, adapter_slots=12, kv_cache_mib=1, block_size=4)
    engine = build_engine(base, settings)
    cases = make_cases(base.shape, tmp_path, [], random_adapters=12, count=26)
    verdict = compare(engine, oracle, cases)
    engine.close()
    assert verdict.wrong == ()
    assert verdict.identical >= 24
    assert verdict.largest_error <= 1e-4


def test_fewer_slots_than_adapters_and_too_little_cache_change_no_answer(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    oracle = make_tiny_llama(tmp_path / "base", seed=1)
    base = resolve_base(str(tmp_path / "base"))
    settings = Settings(
        base="tiny", max_batch_tokens=32, adapter_slots=3, host_adapters=2, kv_cache_mib=1, block_size=1
    )
    engine = build_engine(base, settings)
    engine.scheduler.kv_cache = KVCache(160, 1)  # one MiB is plenty for a model this small
    cases = make_cases(base.shape, tmp_path, [], random_adapters=8, count=24)
    verdict = compare(engine, oracle, cases)
    engine.close()
    assert verdict.wrong == ()


def test_the_adapters_of_the_comparison_really_differ(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    make_tiny_llama(tmp_path / "base")
    base = resolve_base(str(tmp_path / "base"))
    engine = build_engine(base, Settings(base="tiny", kv_cache_mib=1))
    cases = make_cases(base.shape, tmp_path, [], random_adapters=6, count=7)
    same_prompt = [type(c)(c.name, cases[0].prompt, c.adapter, c.max_tokens) for c in cases]
    answers = answer_together(engine, same_prompt)
    engine.close()
    said = [(tuple(answer.tokens[:8]), tuple(answer.probs)) for answer in answers]
    assert len(set(said)) == len(said)
