"""On the real runner, requests with several adapters are answered as by one adapter that is their sum.

On every path of the CPU, in the steps that a GPU would capture, and by transformers with the sum attached.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel

from harness.adapters.artifacts import classifier_config, random_artifact
from harness.adapters.mixed_sites import MIXED_SITES, MLP_SITES
from harness.adapters.sum_of_adapters import write_sum
from harness.bases.tiny_model import make_tiny_llama
from harness.engine.static_rig import build_static_engine
from harness.exactness import Case, answer_by_transformers
from harness.random_prompt import random_prompt
from headmix_adapters.base import ResolvedBase, resolve_base
from headmix_server.core.messages import Classify, Embed, Generate
from headmix_server.core.settings.settings import Settings
from headmix_server.core.types import AdapterRef, EmbeddingParams, SamplingParams, ScaledAdapter
from headmix_server.engine.loop import Engine
from headmix_server.llm.session import Answer, EngineSession, adapter_ref, build_engine

GREEDY = SamplingParams(max_tokens=16, temperature=0, logprobs=2, ignore_eos=True)
SITES = (*MIXED_SITES[:3], MIXED_SITES[4], MLP_SITES)
"""Those with a value head that reads the key, so that their sum is one adapter too."""
SUMS = (
    ((0, 1.0), (2, 1.0)),
    ((2, 1.0), (0, 1.0)),
    ((0, 0.7), (1, -0.5), (4, 2.0)),
    ((3, 3.0), (0, 0.5), (2, 0.25), (1, 1.0)),
    ((0, 0.3),),
)
PROMPTS = [random_prompt(5 + 9 * number, 128, number) for number in range(4)]
EngineOf = Callable[[ResolvedBase], Engine]


def engine_of(**settings: object) -> EngineOf:
    small = {"base": "tiny", "max_batch_tokens": 40, "adapter_slots": 6, "kv_cache_mib": 1, "block_size": 4}
    return lambda base: build_engine(base, Settings.model_validate(small | settings))


def static_engine(base: ResolvedBase) -> Engine:
    settings = Settings(base="tiny", adapter_slots=6, kv_cache_mib=1, block_size=4)
    return build_static_engine(base, settings)[0]


PATHS: dict[str, tuple[EngineOf, float]] = {
    "native": (engine_of(adapter_kernels="native"), 1e-4),
    "torch": (engine_of(adapter_kernels="torch"), 1e-4),
    "int8": (engine_of(quantize="int8"), 0.05),
    "bfloat16": (engine_of(dtype="bfloat16"), 0.2),
    "no prefix cache": (engine_of(prefix_cache="off"), 1e-4),
    "static": (static_engine, 1e-4),
}
"""Each with the gap between the two best tokens below which either may win."""


@pytest.fixture(scope="module")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> tuple[PreTrainedModel, Path]:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("several")
    return make_tiny_llama(folder / "base"), folder


@pytest.fixture(scope="module")
def base(oracle: tuple[PreTrainedModel, Path]) -> ResolvedBase:
    return resolve_base(str(oracle[1] / "base"))


@pytest.fixture(scope="module")
def parts(oracle: tuple[PreTrainedModel, Path], base: ResolvedBase) -> list[Path]:
    paths = [oracle[1] / f"part-{seed}.safetensors" for seed in range(len(SITES))]
    for seed, (path, sites) in enumerate(zip(paths, SITES, strict=True)):
        layers = None if seed % 2 == 0 else (0,)
        dtype = torch.bfloat16 if seed % 3 == 0 else torch.float32
        random_artifact(path, base.shape, sites, seed=seed, layers=layers, dtype=dtype, scale=0.3)
    return paths


@pytest.fixture(scope="module")
def sums(parts: list[Path]) -> list[Path]:
    paths = [parts[0].parent / f"sum-{number}.safetensors" for number in range(len(SUMS))]
    for path, uses in zip(paths, SUMS, strict=True):
        write_sum(path, [(parts[number], scale) for number, scale in uses])
    return paths


def used(
    parts: Sequence[Path], uses: Sequence[tuple[int, float]]
) -> tuple[AdapterRef, float, tuple[ScaledAdapter, ...]]:
    (first, scale), *others = [(adapter_ref(parts[number]), scale) for number, scale in uses]
    return first, scale, tuple(ScaledAdapter(adapter=ref, scale=scale) for ref, scale in others)


def generation(
    name: str, prompt: list[int], uses: tuple[AdapterRef, float, tuple[ScaledAdapter, ...]] | AdapterRef | None
) -> Generate:
    ref, scale, beside = uses if isinstance(uses, tuple) else (uses, 1.0, ())
    return Generate(
        request_id=name, tenant="t", prompt=prompt, adapter=ref, sampling=GREEDY, scale=scale, beside=beside
    )


def answers(engine: Engine, messages: Sequence[Generate | Classify | Embed]) -> dict[str, Answer]:
    """Return all answers; two messages arrive per step."""
    session = EngineSession(engine)
    for place, message in enumerate(messages):
        session.submit(message)
        if place % 2:
            session.step()
    session.drain()
    return session.answers


def assert_same(found: Answer, expected: Answer, tie: float) -> None:
    assert (found.failure, expected.failure) == (None, None)
    assert found.tokens
    for place, (one, other) in enumerate(zip(found.tokens, expected.tokens, strict=True)):
        if one != other:
            assert min(found.gaps[place], *(expected.gaps[place : place + 1] or [tie])) <= tie, place
            return


@pytest.mark.parametrize("path", PATHS)
def test_a_mixed_batch_answers_as_the_sums_do(
    path: str, base: ResolvedBase, parts: list[Path], sums: list[Path]
) -> None:
    make, tie = PATHS[path]
    engine = make(base)
    messages = [
        generation(f"{number}-{place}", prompt, used(parts, uses))
        for place, prompt in enumerate(PROMPTS)
        for number, uses in enumerate(SUMS)
    ]
    messages += [generation(f"part-{number}", PROMPTS[2], adapter_ref(part)) for number, part in enumerate(parts)]
    messages += [generation("base", PROMPTS[2], None)]
    found = answers(engine, messages)
    expected = answers(
        engine,
        [
            generation(f"{number}-{place}", prompt, adapter_ref(total))
            for place, prompt in enumerate(PROMPTS)
            for number, total in enumerate(sums)
        ],
    )
    for name, answer in expected.items():
        assert_same(found[name], answer, tie)
    assert len({tuple(answer.tokens) for name, answer in found.items() if name.endswith("-2")}) > len(SUMS) // 2
    engine.close()


def test_transformers_with_the_sum_attached_says_the_same(
    oracle: tuple[PreTrainedModel, Path], base: ResolvedBase, parts: list[Path], sums: list[Path]
) -> None:
    engine = engine_of()(base)
    for number, (uses, total) in enumerate(zip(SUMS, sums, strict=True)):
        found = answers(engine, [generation("r", PROMPTS[3], used(parts, uses))])["r"]
        case = Case(f"sum {number}", PROMPTS[3], total, GREEDY.max_tokens)
        assert_same(found, answer_by_transformers(oracle[0], case), 1e-4)
    engine.close()


@pytest.mark.parametrize("path", ["native", "int8", "static"])
def test_the_order_of_the_adapters_changes_no_bit(path: str, base: ResolvedBase, parts: list[Path]) -> None:
    uses = ((0, 0.7), (2, 0.5), (4, 1.5))
    told = []
    for turn in range(3):
        engine = PATHS[path][0](base)
        answer = answers(engine, [generation("r", PROMPTS[3], used(parts, (*uses[turn:], *uses[:turn])))])["r"]
        told.append((answer.tokens, answer.logprobs))
        engine.close()
    assert told[0] == told[1] == told[2]


@pytest.mark.parametrize("path", ["native", "int8"])
def test_one_unscaled_adapter_says_the_same_alone_and_beside_rows_of_several(
    path: str, base: ResolvedBase, parts: list[Path]
) -> None:
    make, tie = PATHS[path]
    engine = make(base)
    plain = [generation(f"plain-{number}", PROMPTS[number % 4], adapter_ref(part)) for number, part in enumerate(parts)]
    alone = {name: answer for message in plain for name, answer in answers(engine, [message]).items()}
    several = [generation(f"several-{number}", PROMPTS[1], used(parts, uses)) for number, uses in enumerate(SUMS)]
    mixed = answers(engine, [one for pair in zip(plain, several, strict=True) for one in pair])
    engine.close()
    for name, answer in alone.items():
        assert_same(mixed[name], answer, tie)


def test_classifications_have_the_first_ones_head_and_embeddings_the_sum(
    base: ResolvedBase, parts: list[Path], tmp_path: Path
) -> None:
    engine = engine_of()(base)
    judge = tmp_path / "judge.safetensors"
    random_artifact(judge, base.shape, SITES[0], seed=9, classifier=classifier_config("a", "b", "c"), scale=0.3)
    write_sum(tmp_path / "sum.safetensors", [(judge, 0.5), (parts[2], 2.0)])
    total = adapter_ref(tmp_path / "sum.safetensors")
    beside = (ScaledAdapter(adapter=adapter_ref(parts[2]), scale=2.0),)
    params = EmbeddingParams(pooling="mean", normalize=True)
    found = answers(
        engine,
        [
            Classify(
                request_id="c", tenant="t", prompt=PROMPTS[2], adapter=adapter_ref(judge), scale=0.5, beside=beside
            ),
            Embed(
                request_id="e",
                tenant="t",
                prompt=PROMPTS[2],
                adapter=adapter_ref(judge),
                params=params,
                scale=0.5,
                beside=beside,
            ),
            Classify(request_id="sum c", tenant="t", prompt=PROMPTS[2], adapter=total),
            Embed(request_id="sum e", tenant="t", prompt=PROMPTS[2], adapter=total, params=params),
            Classify(request_id="alone", tenant="t", prompt=PROMPTS[2], adapter=adapter_ref(judge)),
        ],
    )
    engine.close()
    assert found["c"].probs == pytest.approx(found["sum c"].probs, abs=1e-5)
    assert found["e"].vector == pytest.approx(found["sum e"].vector, abs=1e-5)
    assert found["c"].probs != pytest.approx(found["alone"].probs, abs=1e-3)


def test_a_slot_that_holds_something_else_fails_the_rows_that_lean_on_it_and_no_other(
    base: ResolvedBase, parts: list[Path]
) -> None:
    engine = engine_of()(base)
    session = EngineSession(engine)
    session.submit(generation("both", PROMPTS[0], used(parts, ((0, 1.0), (2, 0.5)))))
    session.submit(generation("first alone", PROMPTS[0], adapter_ref(parts[0])))
    while not session.answers["both"].tokens:
        session.step()
    (lease,) = {
        lease
        for sequence in engine.scheduler.running.values()
        for lease in sequence.leases
        if lease.digest == adapter_ref(parts[2]).digest
    }
    engine.runner.clear(lease.slot)
    session.step()
    assert "no longer holds" in (session.answers["both"].failure or "")
    while not session.answers["first alone"].ended:
        session.step()
    assert session.answers["first alone"].failure is None
    engine.close()


def test_a_captured_step_is_not_used_for_rows_of_several_adapters(base: ResolvedBase, parts: list[Path]) -> None:
    settings = Settings(base="tiny", adapter_slots=6, kv_cache_mib=1, block_size=4)
    engine, decode = build_static_engine(base, settings)
    answers(engine, [generation("several", PROMPTS[0], used(parts, SUMS[0]))])
    answers(engine, [generation("scaled", PROMPTS[0], used(parts, SUMS[4]))])
    assert decode.num_ready == 0
    answers(engine, [generation("plain", PROMPTS[0], adapter_ref(parts[0]))])
    assert decode.num_ready > 0
    engine.close()
