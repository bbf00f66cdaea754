"""Answers bound to a form: the same alone, in a batch and after preemptions; aborts and choices disturb nobody."""

import json
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest

from harness.bases.tiny_model import make_tiny_llama
from harness.random_prompt import random_prompt
from headmix_adapters.base import ResolvedBase, resolve_base
from headmix_server.core.messages import Abort, Generate
from headmix_server.core.settings.settings import Settings
from headmix_server.core.types import FinishReason, SamplingParams
from headmix_server.engine.loop import Engine
from headmix_server.llm.session import Answer, EngineSession, build_engine
from headmix_server.text.grammars.wanted import Choice, Expression, JsonText, Wanted
from headmix_server.text.grammars.write import write_grammar
from headmix_server.text.tokenizer import Tokenizer, load_tokenizer

SCHEMA = {
    "type": "object",
    "properties": {
        "color": {"enum": ["red", "green"]},
        "sizes": {"type": "array", "items": {"type": "boolean"}, "maxItems": 2},
    },
    "required": ["color", "sizes"],
    "additionalProperties": False,
}
FORMS: tuple[Wanted, ...] = (
    JsonText(SCHEMA, white_space=None),
    Expression("[a-z ]{20,60}!"),
    Choice(("The quick brown fox jumps over the lazy dog", "nothing stops the river")),
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> ResolvedBase:
    folder = tmp_path_factory.mktemp("structured")
    make_tiny_llama(folder / "base")
    return resolve_base(str(folder / "base"))


@pytest.fixture(scope="module")
def tokenizer(base: ResolvedBase) -> Tokenizer:
    return load_tokenizer(base.folder)


@pytest.fixture
def engine(base: ResolvedBase) -> Iterator[Engine]:
    options: dict[str, Any] = {"base": "tiny", "max_batch_tokens": 64, "adapter_slots": 1, "kv_cache_mib": 8}
    engine = build_engine(base, Settings(**options, block_size=4))
    yield engine
    engine.close()


def bound(name: str, wanted: Wanted | None, **sampling: Any) -> Generate:
    params = SamplingParams(
        **{"max_tokens": 48, "temperature": 1.5, "grammar": None if wanted is None else write_grammar(wanted)}
        | sampling
    )
    return Generate(request_id=name, tenant="t", prompt=random_prompt(6, 512, 3), adapter=None, sampling=params)


def requests() -> list[Generate]:
    """Return four choices of each form, and four free ones."""
    wanted = (*FORMS, None)
    return [bound(f"{place}-{choice}", form, seed=choice) for place, form in enumerate(wanted) for choice in range(4)]


def answers(engine: Engine, asked: list[Generate], preempted_at: range = range(0)) -> dict[str, Answer]:
    """Answer requests; at some steps everything running is preempted."""
    session = EngineSession(engine)
    for message in asked:
        session.submit(message)
    for step in range(max(preempted_at, default=0) + 1):
        if step in preempted_at:
            for sequence in list(engine.scheduler.running.values()):
                engine.scheduler.preempt(sequence)
        session.step()
    session.drain()
    return session.answers


def test_they_are_the_same_alone_together_and_after_preemptions(engine: Engine) -> None:
    asked = requests()
    together = answers(engine, asked)
    assert len({tuple(together[f"0-{choice}"].tokens) for choice in range(4)}) > 1  # each choice has its own seed
    for message in asked:
        alone = answers(engine, [message])[message.request_id]
        assert (alone.tokens, alone.finish_reason) == (
            together[message.request_id].tokens,
            together[message.request_id].finish_reason,
        )
    again = answers(engine, asked, range(4, 24, 5))
    assert {name: answer.tokens for name, answer in again.items()} == {
        name: answer.tokens for name, answer in together.items()
    }


def test_every_choice_that_ends_fits_its_own_form(engine: Engine, tokenizer: Tokenizer) -> None:
    found = answers(engine, [bound(str(seed), FORMS[0], seed=seed) for seed in range(16)])
    ended = [answer for answer in found.values() if answer.finish_reason is FinishReason.STOP]
    assert len(ended) > 8
    for answer in ended:
        jsonschema_rs.validate(SCHEMA, json.loads(tokenizer.decode(answer.tokens)))


def test_ignored_ends_least_lengths_and_penalties_leave_the_form_whole(engine: Engine, tokenizer: Tokenizer) -> None:
    asked = [
        bound("eos", FORMS[2], ignore_eos=True),
        bound("least", FORMS[2], min_tokens=4),
        bound("penalty", FORMS[2], frequency_penalty=2.0, repetition_penalty=2.0),
        bound("greedy", FORMS[2], temperature=0.0),
        bound("scored", FORMS[2], logprobs=3),
    ]
    assert isinstance(FORMS[2], Choice)
    for name, answer in answers(engine, asked).items():
        assert answer.finish_reason is FinishReason.STOP, name
        assert tokenizer.decode(answer.tokens) in FORMS[2].texts
    assert len(answers(engine, asked[-1:])["scored"].logprobs) > 0


def test_an_abort_in_the_middle_disturbs_nobody_and_leaves_nothing(engine: Engine) -> None:
    asked = requests()
    expected = answers(engine, asked)
    session = EngineSession(engine)
    for message in asked:
        session.submit(message)
    for _ in range(6):
        session.step()
    gone = {message.request_id for message in asked[::3]}
    for name in gone:
        engine.abort(Abort(request_id=name))
    session.drain()
    for message in asked:
        if message.request_id not in gone:
            assert session.answers[message.request_id].tokens == expected[message.request_id].tokens
    assert not engine.scheduler.running
    assert engine.scheduler.kv_cache.num_free == engine.scheduler.kv_cache.num_blocks
