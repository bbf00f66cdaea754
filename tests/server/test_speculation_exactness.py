"""On the real runner, 500 mixed requests get the same answers with tokens guessed ahead and without.

Compared are tokens, ends and, within float32's rounding, log-probabilities. Prompts repeat themselves and the base's
scores are steep, so that guesses are made and many are right, at every temperature.
"""

import random
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from harness.adapters.artifacts import random_artifact
from harness.adapters.mixed_sites import MIXED_SITES
from harness.bases.tiny_model import make_tiny_llama
from harness.engine.bold_lookup import BoldLookup
from headmix_adapters.base import resolve_base
from headmix_adapters.config import BaseShape
from headmix_server.core.messages import Abort, Generate
from headmix_server.core.sampling import for_choice
from headmix_server.core.settings.settings import Settings
from headmix_server.core.types import AdapterRef, SamplingParams
from headmix_server.engine.loop import Engine
from headmix_server.engine.report import make_report
from headmix_server.engine.speculation.prompt_lookup import PromptLookup
from headmix_server.engine.speculation.speculation import Speculation
from headmix_server.llm.session import EngineSession, adapter_ref, build_engine
from headmix_server.worker import StartError

pytestmark = pytest.mark.slow

REQUESTS = 500
PATHS: dict[str, dict[str, Any]] = {
    "native": {"adapter_kernels": "native"},
    "torch": {"adapter_kernels": "torch"},
    "int8": {"adapter_kernels": "native", "quantize": "int8"},
}
ADDED = ("<a>", "<b>", "<c>")
WITH_ADDED = ("0", "2")


def make_adapters(folder: Path, base: BaseShape) -> list[AdapterRef | None]:
    """Write adapters of every site, two of which add tokens; the base alone is among those returned."""
    refs: list[AdapterRef | None] = [None]
    for seed, sites in enumerate(MIXED_SITES):
        path = folder / f"{seed}.safetensors"
        added = ADDED if path.stem in WITH_ADDED else ()
        random_artifact(path, base, sites, seed=seed, scale=0.5, dtype=torch.float32, added_tokens=added)
        refs.append(adapter_ref(path))
    return refs


def random_prompt(rng: random.Random, size: int) -> list[int]:
    """Return a prompt that repeats itself more or less."""
    phrase = [rng.randrange(3, size) for _ in range(rng.randrange(2, 9))]
    prompt = [rng.randrange(3, size) for _ in range(rng.randrange(1, 6))]
    for _ in range(rng.randrange(5)):
        prompt += phrase[: rng.randrange(1, 9)]
    return prompt


def random_sampling(rng: random.Random, size: int) -> SamplingParams:
    chosen: dict[str, Any] = {
        "max_tokens": rng.randrange(1, 33),
        "temperature": rng.choice([0, 0.7, 1.5]),
        "seed": rng.randrange(2**40),
        "ignore_eos": rng.random() < 0.8,
    }
    others: dict[str, Any] = {
        "top_p": rng.choice([0.5, 0.95]),
        "top_k": rng.choice([1, 2, 40]),
        "min_p": rng.choice([0.02, 0.3]),
        "presence_penalty": rng.choice([0.4, -0.5]),
        "frequency_penalty": rng.choice([0.6, -0.3]),
        "repetition_penalty": rng.choice([1.2, 0.8]),
        "stop_token_ids": tuple(rng.randrange(size) for _ in range(rng.choice([1, 40]))),
        "logprobs": rng.choice([0, 3]),
        "prompt_logprobs": True,
    }
    return SamplingParams(**chosen, **{name: value for name, value in others.items() if rng.random() < 0.25})


def make_requests(
    rng: random.Random, refs: list[AdapterRef | None], vocab_size: int, count: int = REQUESTS
) -> list[Generate]:
    """Return requests of one to three choices each, whose seeds differ as the API's do."""
    requests: list[Generate] = []
    while len(requests) < count:
        ref = rng.choice(refs)
        size = vocab_size + (len(ADDED) if ref is not None and ref.name in WITH_ADDED else 0)
        prompt, sampling = random_prompt(rng, size), random_sampling(rng, size)
        for choice in range(rng.choice([1, 1, 3])):
            params = for_choice(sampling, choice)
            name, tenant = f"r{len(requests)}", rng.choice("tu")
            requests.append(Generate(request_id=name, tenant=tenant, prompt=prompt, adapter=ref, sampling=params))
    return requests


def answer(
    engine: Engine, requests: list[Generate], seed: int = 0, *, disturbed: bool = False, width: int = 6
) -> EngineSession:
    """Answer requests a few at a time; `disturbed`: between preemptions and aborts of neighbours by a seed."""
    rng, session, waiting = random.Random(seed), EngineSession(engine), list(requests)
    while waiting or not engine.idle:
        while waiting and len(engine.scheduler.running) + len(engine.scheduler.waiting) < width:
            session.submit(waiting.pop())
            if disturbed and rng.random() < 0.1:
                neighbour = waiting[-1] if waiting else requests[0]
                name = f"gone-{len(waiting)}"
                session.submit(msgspec.structs.replace(neighbour, request_id=name))
                session.step()
                engine.abort(Abort(request_id=name))
        if disturbed and rng.random() < 0.05:
            for sequence in list(engine.scheduler.running.values())[: rng.randrange(1, 4)]:
                engine.scheduler.preempt(sequence)
        session.step()
        if rng.random() < 0.1:
            engine.check_integrity()
    engine.check_integrity()
    return session


def build(folder: Path, path: str, tokens: int) -> Engine:
    settings: dict[str, Any] = {"base": "tiny", "kv_cache_mib": 2, "block_size": 4, "max_batch_tokens": 32}
    try:
        return build_engine(resolve_base(str(folder)), Settings(**settings, **PATHS[path], speculative_tokens=tokens))
    except StartError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize(("path", "drafter"), [("native", PromptLookup), ("torch", BoldLookup)])
def test_answers_are_the_same_with_and_without(tmp_path: Path, path: str, drafter: type[PromptLookup]) -> None:
    torch.set_num_threads(1)
    make_tiny_llama(tmp_path / "base", {"vocab_size": 96})
    base = resolve_base(str(tmp_path / "base"))
    requests = make_requests(random.Random(20261126), make_adapters(tmp_path, base.shape), base.shape.vocab_size)
    plain, guessing = build(tmp_path / "base", path, 0), build(tmp_path / "base", path, 5)
    guessing.scheduler.speculation = Speculation(5, drafter)
    without = answer(plain, requests)
    with_drafts = answer(guessing, requests, 2, disturbed=True)
    assert make_report(plain).drafted_tokens == 0
    report = make_report(guessing)
    for engine in (plain, guessing):
        engine.close()
    for request in requests:
        got, alone = with_drafts.answers[request.request_id], without.answers[request.request_id]
        assert got.failure is alone.failure is None
        assert (got.tokens, got.finish_reason) == (alone.tokens, alone.finish_reason), request
        assert [entry.token for entry in got.logprobs] == [entry.token for entry in alone.logprobs]
        scores = [[entry.logprob, *(score for _, score in entry.top)] for entry in got.logprobs]
        expected = [[entry.logprob, *(score for _, score in entry.top)] for entry in alone.logprobs]
        for found, wanted in zip(scores, expected, strict=True):
            assert found == pytest.approx(wanted, abs=1e-4)
    assert report.drafted_tokens > report.accepted_tokens > 100


def test_where_products_do_not_depend_on_their_rows_answers_are_the_same_bit_for_bit(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    make_tiny_llama(tmp_path / "base", {"vocab_size": 96})
    base = resolve_base(str(tmp_path / "base"))
    rng = random.Random(7)
    refs = make_adapters(tmp_path, base.shape)
    refs = [refs[0], refs[2], refs[4], refs[5]]  # the scores of added tokens are torch's product
    requests = [
        msgspec.structs.replace(request, sampling=msgspec.structs.replace(request.sampling, logprobs=3))
        for request in make_requests(rng, refs, base.shape.vocab_size, count=60)
    ]
    plain, guessing = build(tmp_path / "base", "int8", 0), build(tmp_path / "base", "int8", 5)
    guessing.scheduler.speculation = Speculation(5, BoldLookup)
    without, with_drafts = (answer(engine, requests, width=1) for engine in (plain, guessing))
    assert make_report(guessing).accepted_tokens > 50
    for engine in (plain, guessing):
        engine.close()
    for request in requests:
        got, alone = with_drafts.answers[request.request_id], without.answers[request.request_id]
        assert got.tokens == alone.tokens
        assert got.logprobs == alone.logprobs
