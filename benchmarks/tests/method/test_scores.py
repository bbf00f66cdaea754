"""Scores agree with what they are short for: greedy decoding, the product's own scores, the definition of MCC."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest
import torch
from torch import Tensor

from benchmarks.method.scores import judge_labels, matthews, score_generator
from harness.bases.tiny_model import make_tiny_llama
from headmix_adapters.base import resolve_base
from headmix_adapters.config import AdapterConfig, HeadPart, SiteConfig, Sites
from headmix_adapters.inject import LanguageModel, attach
from headmix_adapters.train.data.examples import IGNORED, Example
from headmix_adapters.train.scoring.evaluate import answer_scores

PROMPTS = [[5, 6, 7], [8, 9], [10, 11, 12, 13]]
LENGTH = 5


@pytest.fixture
def model(tmp_path: Path) -> LanguageModel:
    base = make_tiny_llama(tmp_path)
    shape = resolve_base(str(tmp_path)).shape
    sites = Sites(q=SiteConfig(head=HeadPart(rank=2, base="x")))
    return LanguageModel(
        base, attach(base, AdapterConfig(method="kernel-mix", task="generation", base=shape, sites=sites))
    )


def greedy(model: LanguageModel, prompt: list[int]) -> list[int]:
    generate = cast("Callable[..., Tensor]", model.model.generate)
    options = {"do_sample": False, "min_new_tokens": LENGTH, "max_new_tokens": LENGTH, "eos_token_id": None}
    ids = torch.tensor([prompt])
    return generate(ids, attention_mask=torch.ones_like(ids), pad_token_id=0, **options)[0, len(prompt) :].tolist()


def example(prompt: list[int], answer: list[int]) -> Example:
    return Example(prompt + answer, [IGNORED] * len(prompt) + answer)


def test_an_answer_is_exact_if_and_only_if_greedy_decoding_gives_it(model: LanguageModel) -> None:
    answers = [greedy(model, prompt) for prompt in PROMPTS]
    exact = [example(prompt, answer) for prompt, answer in zip(PROMPTS, answers, strict=True)]
    assert score_generator(model, exact, None).scores["exact answers"] == 1
    off = [
        example(prompt, [*answer[:3], answer[3] ^ 1, answer[4]])
        for prompt, answer in zip(PROMPTS, answers, strict=True)
    ]
    scored = score_generator(model, [*exact, *off[:2]], [3] * 5).scores
    assert (scored["exact answers"], scored["exact beginnings"]) == (0.6, 1)
    assert score_generator(model, off, [4] * 3).scores["exact beginnings"] == 0


def test_the_loss_is_the_products_and_its_outcomes_are_in_the_examples_order(model: LanguageModel) -> None:
    examples = [example([1, 2], [3]), example([4], [5, 6, 7, 8, 9]), example([10, 11, 12], [13, 14])]
    scored = score_generator(model, examples, None)
    expected = answer_scores(model.model, examples, 2)["answer_nll"]
    assert scored.scores["loss per token"] == pytest.approx(expected, rel=1e-5)
    assert scored.tokens == (1, 5, 2)
    for one, outcome in zip(examples, scored.outcomes, strict=True):
        assert outcome == pytest.approx(answer_scores(model.model, [one], 1)["answer_nll"], abs=2e-5)


def test_accuracy_counts_right_labels_and_mcc_of_two_labels_is_the_textbooks() -> None:
    predicted, actual = [1, 1, 0, 1, 0, 0, 0, 1], [1, 0, 0, 1, 0, 1, 0, 1]
    scored = judge_labels(predicted, actual)
    assert list(scored.outcomes) == [1, 0, 1, 1, 1, 0, 1, 1]
    hits, misses, rejected, false = 3, 1, 3, 1
    expected = (hits * rejected - false * misses) / math.sqrt(
        (hits + false) * (hits + misses) * (rejected + false) * (rejected + misses)
    )
    assert scored.scores["accuracy"] == 0.75
    assert scored.scores["MCC"] == pytest.approx(expected)


def test_mcc_of_many_labels_is_1_for_all_right_and_0_for_guessing_one() -> None:
    assert matthews([0, 1, 2, 3], [0, 1, 2, 3]) == pytest.approx(1)
    assert matthews([1, 1, 1, 1], [0, 1, 2, 3]) == 0
    assert matthews([1, 2, 3, 0], [0, 1, 2, 3]) < 0
