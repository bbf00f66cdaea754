"""Sampled and penalised answers are the same alone, in a batch, after preemptions and with a cached prefix."""

from pathlib import Path
from typing import Any

from harness.bases.tiny_model import make_tiny_llama
from harness.random_prompt import random_prompt
from headmix_adapters.base import resolve_base
from headmix_server.core.messages import Generate
from headmix_server.core.settings.settings import Settings
from headmix_server.core.types import SamplingParams
from headmix_server.llm.session import EngineSession, build_engine

KINDS: tuple[dict[str, Any], ...] = (
    {"temperature": 1.0},
    {"temperature": 0.8, "top_p": 0.9, "top_k": 40, "frequency_penalty": 0.8},
    {"temperature": 0.7, "min_p": 0.02, "repetition_penalty": 1.3, "presence_penalty": 0.4},
    {"temperature": 0.0, "frequency_penalty": 0.5},
)
SHARED = random_prompt(12, 512, 99)


def requests() -> list[tuple[list[int], SamplingParams]]:
    prompts = [SHARED + random_prompt(3, 512, number // 2) for number in range(8)]  # of two choices each
    return [
        (prompt, SamplingParams(max_tokens=24, seed=7 + number, ignore_eos=True, **KINDS[number // 2 % 4]))
        for number, prompt in enumerate(prompts)
    ]


def answer(
    folder: Path, asked: list[tuple[list[int], SamplingParams]], preempted_at: range = range(0)
) -> list[list[int]]:
    """Answer requests on their own engine; at some steps everything running is preempted."""
    options: dict[str, Any] = {"base": "tiny", "max_batch_tokens": 64, "adapter_slots": 1, "kv_cache_mib": 8}
    engine = build_engine(resolve_base(str(folder)), Settings(**options, block_size=4))
    session = EngineSession(engine)
    for number, (prompt, sampling) in enumerate(asked):
        session.submit(
            Generate(request_id=str(number), tenant="default", prompt=prompt, adapter=None, sampling=sampling)
        )
    for step in range(max(preempted_at, default=0) + 1):
        if step in preempted_at:
            assert engine.scheduler.running
            for sequence in list(engine.scheduler.running.values()):
                engine.scheduler.preempt(sequence)
        session.step()
    session.drain()
    engine.close()
    return [session.answers[str(number)].tokens for number in range(len(asked))]


def test_they_are_the_same_alone_together_and_after_preemptions(tmp_path: Path) -> None:
    make_tiny_llama(tmp_path / "base")
    asked = requests()
    together = answer(tmp_path / "base", asked)
    assert [len(tokens) for tokens in together] == [24] * len(asked)
    assert together[0] != together[1]  # each choice of a request has its own seed
    for number, request in enumerate(asked):
        assert answer(tmp_path / "base", [request]) == [together[number]]
    assert answer(tmp_path / "base", asked, range(4, 20, 5)) == together
