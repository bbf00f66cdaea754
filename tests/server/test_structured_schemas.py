"""Hundreds of schemas and a model of random weights at temperature 1.5: whatever ends fits, the rest is refused."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.bases.tiny_model import make_tiny_llama
from harness.memory import living_objects, resident_mib
from harness.schemas.answers import MAX_TOKENS, Answers, answer_all
from harness.schemas.drawn import drawn_schemas
from harness.schemas.keywords import schemas, words_of
from harness.schemas.records import record_schema
from headmix_server import LLM
from headmix_server.core.errors import InvalidRequest
from headmix_server.core.types import FinishReason, SamplingParams
from headmix_server.llm.results import Generation

OF_THE_WHOLE = ("Unsatisfiable schema", "no text fits", "no JSON fits", "does not exist", "invalid multiple of")
"""Words of a refusal that is about the whole schema: nothing fits it, or it is none."""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("schemas") / "base"
    make_tiny_llama(folder)
    return folder


@pytest.fixture(scope="module")
def llm(base: Path) -> Iterator[LLM]:
    with LLM(os.fspath(base), progress=False, device="cpu", kv_cache_mib=64, max_running=400, adapter_slots=1) as llm:
        yield llm


@pytest.fixture(scope="module")
def answers(llm: LLM, base: Path) -> Answers:
    return answer_all(llm, base, [*schemas(), *map(record_schema, range(140)), *drawn_schemas(100)])


def test_every_answer_that_ends_fits_its_schema(answers: Answers) -> None:
    assert len(answers.accepted) >= 300
    assert list(answers.wrong()) == []
    assert len(answers.ended) > 0.7 * len(answers.accepted)


def test_what_does_not_end_is_cut_at_its_length_or_becomes_too_complex(answers: Answers) -> None:
    for answer in answers.answers:
        assert isinstance(answer, Generation | InvalidRequest), answer
        if isinstance(answer, Generation) and answer.finish_reason is FinishReason.LENGTH:
            assert len(answer.tokens) == MAX_TOKENS


def test_every_refusal_names_the_keyword_or_says_that_nothing_fits(answers: Answers) -> None:
    unnamed = [
        (schema, reason)
        for schema, reason in answers.refusals
        if not any(word and word in reason for word in words_of(schema)) and not any(w in reason for w in OF_THE_WHOLE)
    ]
    assert unnamed == []


def test_the_engine_is_as_before_and_nothing_stays_in_memory(llm: LLM, base: Path, answers: Answers) -> None:
    free = SamplingParams(max_tokens=20, temperature=0.0)
    before = llm.generate("The quick", sampling=free)
    answer_all(llm, base, answers.accepted[:100])
    objects, resident = living_objects(), resident_mib()
    answer_all(llm, base, answers.accepted[:100])
    assert living_objects() == objects
    assert resident_mib() - resident < 64
    assert llm.generate("The quick", sampling=free) == before
