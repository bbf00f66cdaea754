"""The sampler on a GPU: compiled kernels match the reference, one wait per step, and the engine matches the CPU's."""

from pathlib import Path
from typing import Any

import pytest
import torch

from harness.bases.tiny_model import make_tiny_llama
from harness.engine.sampling_rows import assert_same, hard_rows, random_asking
from harness.random_prompt import random_prompt
from headmix_adapters.base import resolve_base
from headmix_server.core.messages import Generate
from headmix_server.core.runner import BatchRow
from headmix_server.core.settings.settings import Settings
from headmix_server.core.types import SamplingParams
from headmix_server.device.adapters.added_tokens import AddedScores
from headmix_server.device.exchange import Readback, send
from headmix_server.device.sampler import Sampler
from headmix_server.kernels.sampling.choice import fastest_sampling
from headmix_server.kernels.sampling.plan import plan_choices
from headmix_server.kernels.sampling.reference import torch_choose
from headmix_server.llm.session import EngineSession, build_engine

triton_choose = pytest.importorskip(
    "headmix_server.kernels.triton.sampling", reason="Triton is not installed"
).triton_choose

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("choose", [triton_choose, torch_choose], ids=["triton", "torch"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("width", [5, 1000, 49_152, 131_075])
def test_the_gpu_chooses_and_scores_as_the_cpu_does(choose: Any, width: int, dtype: torch.dtype) -> None:
    device = torch.device("cuda", torch.cuda.current_device())
    for seed in range(3 if width <= 1000 else 1):
        logits = hard_rows(width, seed).to(dtype)
        asked = random_asking(width, len(logits), seed)
        plan, none = plan_choices(asked), torch.empty(len(logits), 0)
        sent = plan.with_tables(send(table, device) for table in plan.tables)
        found = choose(logits.to(device), none.to(device), sent)
        assert found.tokens.device == device
        assert_same(found, torch_choose(logits, none, plan), asked)


@pytest.mark.filterwarnings("default:Synchronization debug mode")
def test_nothing_waits_for_the_device_before_the_numbers_are_fetched() -> None:
    device = torch.device("cuda", torch.cuda.current_device())
    sampler = Sampler(fastest_sampling(device))
    asked = [
        SamplingParams(max_tokens=9, temperature=0),
        SamplingParams(max_tokens=9, temperature=0.8, top_p=0.9, top_k=40, frequency_penalty=0.5, logprobs=5, seed=3),
    ]
    rows = [(BatchRow(n, 2, 1, [4, 5, 6], 2, (), None, samples=True, params=p), p) for n, p in enumerate(asked)]
    logits = torch.randn(2, 5000, device=device)
    added = AddedScores.stack([None, torch.ones(3, device=device)], device)
    for _ in range(2):  # the first compiles
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error")
        back = Readback()
        try:
            pending = sampler.choose(logits, rows, added, back)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        back.fetch()
        assert None not in pending.read()


def answers(folder: Path, device: str, requests: list[tuple[list[int], SamplingParams]]) -> list[list[int]]:
    options: dict[str, Any] = {"device": device, "dtype": "float32", "kv_cache_mib": 64, "adapter_memory_mib": 64}
    settings = Settings(base="tiny", max_batch_tokens=64, adapter_slots=4, block_size=16, **options)
    engine = build_engine(resolve_base(str(folder)), settings)
    session = EngineSession(engine)
    for number, (prompt, sampling) in enumerate(requests):
        session.submit(
            Generate(request_id=str(number), tenant="default", prompt=prompt, adapter=None, sampling=sampling)
        )
    session.drain()
    engine.close()
    return [session.answers[str(number)].tokens for number in range(len(requests))]


def test_sampled_answers_are_the_same_as_on_the_cpu(tmp_path: Path) -> None:
    make_tiny_llama(tmp_path / "base")
    torch.backends.cuda.matmul.allow_tf32 = False
    kinds: list[dict[str, Any]] = [
        {"temperature": 1.0},
        {"temperature": 0.8, "top_p": 0.95, "top_k": 50},
        {"temperature": 0.7, "min_p": 0.05, "repetition_penalty": 1.2},
        {"temperature": 0.0, "frequency_penalty": 0.5, "logprobs": 5},
    ]
    requests = [
        (random_prompt(9, 512, seed), SamplingParams(max_tokens=16, seed=seed, ignore_eos=True, **kinds[seed % 4]))
        for seed in range(16)
    ]
    assert answers(tmp_path / "base", "cuda", requests) == answers(tmp_path / "base", "cpu", requests)
