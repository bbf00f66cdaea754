"""On the real runner, answers bound by grammars are the same with forced tokens guessed ahead and without."""

import os
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from headmix_server import LLM, Choice, Expression, JsonText, SamplingParams
from headmix_server.engine.report import make_report
from headmix_server.llm import Generation
from headmix_server.text.grammars.wanted import Wanted
from tests.server.llm.conftest import SMALL

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "the first name": {"type": "string", "maxLength": 8},
        "the quick brown fox jumps": {"enum": ["over the lazy dog", "over the fence"]},
        "numbers": {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 99}, "maxItems": 3},
    },
    "required": ["the first name", "the quick brown fox jumps", "numbers"],
    "additionalProperties": False,
}
FORMS: list[Wanted | None] = [
    JsonText(SCHEMA),
    JsonText(SCHEMA, white_space=None),
    Choice(("the quick brown fox", "the quick red fox")),
    Expression("(the lazy dog, ){2,4}jumps"),
    None,
]
ADAPTERS = [None, "a", {"a": 0.5, "b": 1.5}]


def sampling(temperature: float, seed: int, at: int) -> SamplingParams:
    return SamplingParams(
        max_tokens=60,
        temperature=temperature,
        seed=seed,
        repetition_penalty=1.1 if at % 2 else 1.0,
        logprobs=2,
    )


def generations(folder: Path, tokens: int) -> tuple[list[Generation], int]:
    adapters = {name: folder / f"{name}.safetensors" for name in ("a", "b")}
    with LLM(os.fspath(folder / "base"), adapters=adapters, speculative_tokens=tokens, **SMALL) as llm:
        found = []
        for seed, (temperature, adapter) in enumerate(product((0.0, 0.7, 1.5), ADAPTERS)):
            batch = llm.batch()  # few enough for guesses
            pending = [
                batch.generate(
                    "the lazy dog jumps", adapter=adapter, form=form, sampling=sampling(temperature, seed, at)
                )
                for at, form in enumerate(FORMS)
            ]
            batch.run()
            found += [one.results()[0] for one in pending]
        return found, make_report(llm._engine).accepted_tokens


def test_answers_bound_by_grammars_are_the_same_with_and_without(folder: Path) -> None:
    without, none = generations(folder, 0)
    with_guesses, accepted = generations(folder, 6)
    assert none == 0
    assert accepted > 50
    for plain, guessed in zip(without, with_guesses, strict=True):
        assert (guessed.tokens, guessed.finish_reason) == (plain.tokens, plain.finish_reason)
        found = [entry.logprob for entry in guessed.logprobs]
        assert found == pytest.approx([entry.logprob for entry in plain.logprobs], abs=1e-4)
