"""A GPU's answers with real weights in each format: `python -m harness.gpu.forms [--base FILE]`; the last line is JSON.

With `--expected FILE` the CPU's answers are read from that file, or written to it if it does not exist yet.

The embedded base answers the same requests on the CPU in float32 and on the GPU in float32, bfloat16, int8 and fp8:
chats with and without the example adapters, classifications and embeddings, in one batch. Answers that differ from
the CPU's are counted, not judged: rounding may decide between two tokens with close scores.
"""

import argparse
import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec

from headmix_server import LLM, SamplingParams

ADAPTERS = {name: f"examples/adapters/{name}.safetensors" for name in ("kingjames", "dictionary", "spam", "category")}
QUESTIONS = (
    "Where are you going?",
    "Name three fruits.",
    "Explain what a river is.",
    "You have read my letter.",
    "What is 12 + 30?",
    "Tell me a joke about cats.",
    "Write one sentence on the sea.",
    "abandon",
)
TEXTS = (
    "Free entry! Text WIN to 80082 now.",
    "See you at lunch?",
    "The central bank raised rates again.",
    "They won the cup in extra time.",
)
TOKENS = 48
SIZES = {"max_running": 32, "max_model_len": 512}
"""What the requests need: a GPU captures a decode step for each number of rows and each context up to these."""

FORMS: tuple[Mapping[str, str], ...] = (
    {"dtype": "float32"},
    {"dtype": "bfloat16"},
    {"dtype": "bfloat16", "quantize": "int8"},
    {"dtype": "bfloat16", "quantize": "fp8"},
)


@dataclass(frozen=True, slots=True)
class Answers:
    """What one format computed, and how long the batch and the start before it took."""

    tokens: Sequence[Sequence[int]]
    labels: Sequence[str | None]
    scores: Sequence[Mapping[str, float]]
    vectors: Sequence[Sequence[float]]
    seconds: float
    start_seconds: float


@dataclass(frozen=True, slots=True)
class Agreement:
    """How a format compares with float32 on the CPU."""

    same_answers: int
    answers: int
    same_prefix_tokens: int
    tokens: int
    same_labels: int
    worst_score: float
    least_cosine: float
    seconds: float
    start_seconds: float


def answers(base: str, **settings: Any) -> Answers:
    """Compute everything in one mixed batch."""
    began = time.perf_counter()
    with LLM(base, adapters=ADAPTERS, progress=False, **SIZES, **settings) as llm:
        start_seconds = time.perf_counter() - began
        names = (None, "kingjames", "dictionary")
        chats = [[{"role": "user", "content": text}] for text in QUESTIONS for _ in names]
        batch = llm.batch()
        greedy = SamplingParams(max_tokens=TOKENS, temperature=0)
        generated = batch.chat(chats, adapter=[*names] * len(QUESTIONS), sampling=greedy)
        classified = batch.classify([*TEXTS, *TEXTS], adapter=["spam"] * len(TEXTS) + ["category"] * len(TEXTS))
        embedded = batch.embed(list(TEXTS))
        began = time.perf_counter()
        batch.run()
        seconds = time.perf_counter() - began
        return Answers(
            [each.tokens for each in generated.results()],
            [each.label for each in classified.results()],
            [each.scores for each in classified.results()],
            [each.vector for each in embedded.results()],
            seconds,
            start_seconds,
        )


def expected_answers(base: str, kept: Path | None) -> Answers:
    """Return what the CPU computes in float32, from a file if it was saved."""
    if kept is not None and kept.exists():
        return msgspec.json.decode(kept.read_bytes(), type=Answers)
    computed = answers(base, device="cpu", dtype="float32")
    if kept is not None:
        kept.write_bytes(msgspec.json.encode(computed))
    return computed


def agreement(found: Answers, expected: Answers) -> Agreement:
    """Compare one format with another."""
    pairs = list(zip(found.tokens, expected.tokens, strict=True))
    scores = zip(found.scores, expected.scores, strict=True)
    return Agreement(
        same_answers=sum(list(mine) == list(theirs) for mine, theirs in pairs),
        answers=len(pairs),
        same_prefix_tokens=sum(common_prefix(mine, theirs) for mine, theirs in pairs),
        tokens=sum(map(len, expected.tokens)),
        same_labels=sum(mine == theirs for mine, theirs in zip(found.labels, expected.labels, strict=True)),
        worst_score=max(abs(mine[label] - theirs[label]) for mine, theirs in scores for label in theirs),
        least_cosine=min(cosine(*vectors) for vectors in zip(found.vectors, expected.vectors, strict=True)),
        seconds=found.seconds,
        start_seconds=found.start_seconds,
    )


def common_prefix(mine: Sequence[int], theirs: Sequence[int]) -> int:
    """Return how many leading tokens two answers share."""
    shared = next((at for at, (one, other) in enumerate(zip(mine, theirs, strict=False)) if one != other), None)
    return min(len(mine), len(theirs)) if shared is None else shared


def cosine(mine: Sequence[float], theirs: Sequence[float]) -> float:
    """Return the cosine of the angle between two vectors."""
    product = sum(one * other for one, other in zip(mine, theirs, strict=True))
    return product / (math.hypot(*mine) * math.hypot(*theirs))


def main() -> None:
    """Compute, compare and print."""
    parser = argparse.ArgumentParser(prog="harness.gpu.forms")
    parser.add_argument("--base", default="smollm2-135m-instruct", help="a name, a folder or a GGUF file")
    parser.add_argument("--device", default="cuda", help="the device that is compared with the CPU")
    parser.add_argument("--expected", type=Path, help="where the CPU's answers are kept between runs")
    arguments = parser.parse_args()
    expected = expected_answers(arguments.base, arguments.expected)
    print(f"CPU, float32: {expected.seconds:.1f} s", flush=True)
    results: dict[str, object] = {}
    for form in FORMS:
        name = "-".join(form.values())
        try:
            found = agreement(answers(arguments.base, device=arguments.device, **form), expected)
        except Exception as error:  # noqa: BLE001 - if one format is unavailable, the others are still compared
            results[name] = repr(error)
        else:
            results[name] = asdict(found)
        print(name, results[name], flush=True)
    print(json.dumps(results))


if __name__ == "__main__":
    main()
