"""Asking the base in words takes bounded memory and time, and never more positions than the base has."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from harness.adapters.artifacts import classifier_config
from harness.bases.families import FAMILIES
from headmix_adapters.base import resolve_base
from headmix_adapters.text.base_text import BaseText, read_base_text
from headmix_adapters.train.data.examples import Example
from headmix_adapters.train.prepare import Material, load_model
from headmix_adapters.train.scoring import zero_shot
from headmix_adapters.train.scoring.zero_shot import MOST_LABELS, evaluate_zero_shot

LABELS = tuple(f"label{number}" for number in range(9))
MaterialMaker = Callable[..., Material]


def _examples(text: BaseText, count: int) -> list[Example]:
    return [Example(text.tokenizer.encode(f"the fox {number}"), number % len(LABELS)) for number in range(count)]


def _input_shapes(model: nn.Module, shapes: list[tuple[int, ...]]) -> Any:
    """Record the shape of every input of a model; return what ends it."""

    def record(_module: nn.Module, _args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        shapes.append(tuple(kwargs["input_ids"].shape))

    return model.register_forward_pre_hook(record, with_kwargs=True)


@pytest.mark.parametrize("family", ["llama", "gemma3_text"])
def test_answers_scored_a_few_at_a_time_score_the_same(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    FAMILIES[family].make(tmp_path)
    base, text = load_model(resolve_base(str(tmp_path)), torch.float32), read_base_text(tmp_path)
    answers = [zero_shot._answer_ids(text.tokenizer, label) for label in ("up", "down", "a longer label", "x")]
    asking = zero_shot._Asking(base, text, classifier_config(*LABELS), answers)
    question = text.tokenizer.encode("which way does the fox go")
    with torch.no_grad():
        together = asking.likelihoods(question)
        monkeypatch.setattr(zero_shot, "_ANSWER_BYTES", 1)
        shapes: list[tuple[int, ...]] = []
        with _input_shapes(base, shapes):
            apart = asking.likelihoods(question)
    torch.testing.assert_close(apart, together, rtol=1e-4, atol=1e-4)
    assert [rows for rows, _ in shapes] == [1] * (1 + len(answers))


def test_the_answers_side_by_side_stay_within_a_bound_of_bytes(
    material: MaterialMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = material("classification")
    config, shapes = loaded.model.config, list[tuple[int, ...]]()
    bound = 2**20
    monkeypatch.setattr(zero_shot, "_ANSWER_BYTES", bound)
    with _input_shapes(loaded.model, shapes):
        evaluate_zero_shot(loaded.model, loaded.text, classifier_config(*LABELS), _examples(loaded.text, 1))
    questions = [tokens for rows, tokens in shapes if rows == 1 and tokens > 64]
    heads = config.num_key_value_heads * config.hidden_size // config.num_attention_heads
    a_question = 2 * config.num_hidden_layers * heads * min(questions) * 4
    assert 1 <= max(rows for rows, _ in shapes) <= max(1, bound // a_question)


def test_a_question_with_too_many_labels_is_not_asked(
    material: MaterialMaker, caplog: pytest.LogCaptureFixture
) -> None:
    loaded = material("classification")
    head = classifier_config(*(f"l{number}" for number in range(MOST_LABELS + 1)))
    with caplog.at_level(logging.WARNING):
        assert evaluate_zero_shot(loaded.model, loaded.text, head, _examples(loaded.text, 2)) is None
    assert f"a question with {MOST_LABELS + 1} labels is too long" in caplog.text


def test_a_question_longer_than_the_bases_positions_is_not_asked_and_a_text_is_cut(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    FAMILIES["gpt2"].make(tmp_path)
    model, text = load_model(resolve_base(str(tmp_path)), torch.float32), read_base_text(tmp_path)
    with caplog.at_level(logging.WARNING):
        many = classifier_config(*(f"a long label {number}" for number in range(40)))
        assert evaluate_zero_shot(model, text, many, _examples(text, 2)) is None
    assert "longer than its positions" in caplog.text
    shapes: list[tuple[int, ...]] = []
    long = [Example(text.tokenizer.encode("the quick brown fox " * 60)[:250], 0)]
    with _input_shapes(model, shapes):
        judged = evaluate_zero_shot(model, text, classifier_config("up", "down"), long)
    assert judged is not None
    positions = model.config.n_positions
    assert positions * 0.8 < max(tokens for _, tokens in shapes) <= positions


def test_texts_that_would_take_too_long_are_asked_in_part_and_the_scores_say_so(material: MaterialMaker) -> None:
    loaded = material("classification")
    examples = _examples(loaded.text, 40)
    whole = evaluate_zero_shot(loaded.model, loaded.text, classifier_config(*LABELS), examples, (), 10**9)
    part = evaluate_zero_shot(loaded.model, loaded.text, classifier_config(*LABELS), examples, (), 2_000)
    least = evaluate_zero_shot(loaded.model, loaded.text, classifier_config(*LABELS), examples, (), 1)
    assert whole is not None
    assert part is not None
    assert least is not None
    assert "asked_texts" not in whole.scores
    assert 1 < part.scores["asked_texts"] < 40
    assert least.scores["asked_texts"] == 1


def test_the_texts_that_are_asked_are_spread_over_a_sorted_file() -> None:
    examples = [Example([1], number) for number in range(10)]
    assert [one.labels for one in zero_shot._spread(examples, 4)] == [0, 2, 5, 7]
    assert [one.labels for one in zero_shot._spread(examples, 99)] == list(range(10))
