"""Scores are what their names say, for the adapter and for the base asked in words."""

from collections.abc import Callable

import pytest
import torch

from headmix_adapters.train.evaluate import answer_scores, label_scores
from headmix_adapters.train.material import Material
from headmix_adapters.train.zero_shot import zero_shot_scores

MaterialMaker = Callable[..., Material]


def test_single_label_scores_count_right_labels_and_average_f1_over_labels() -> None:
    logits = torch.tensor([[2.0, 0, 0], [0, 2, 0], [2, 0, 0], [0, 2, 0]])
    scores = label_scores("single_label", logits, torch.tensor([0, 1, 1, 1]))
    assert scores["accuracy"] == 0.75
    # Label 0: one hit, one false; label 1: two hits, one missed; label 2 does not occur.
    assert scores["macro_f1"] == pytest.approx((2 / 3 + 4 / 5) / 2)


def test_multi_label_scores_want_the_whole_set() -> None:
    logits = torch.tensor([[1.0, -1], [1, 1]])
    scores = label_scores("multi_label", logits, torch.tensor([[1.0, 0], [1, 0]]))
    assert scores == {"accuracy": 0.5, "macro_f1": pytest.approx(0.5)}


def test_regression_scores_are_the_mean_squared_error() -> None:
    scores = label_scores("regression", torch.tensor([[1.0], [3.0]]), torch.tensor([[1.0], [1.0]]))
    assert scores == {"mean_squared_error": 2.0}


def test_answer_scores_weigh_every_supervised_token_alike(material: MaterialMaker) -> None:
    loaded = material("generation")
    scores = answer_scores(loaded.model, loaded.eval.examples, batch_size=5)
    total, count = 0.0, 0
    with torch.no_grad():
        for example in loaded.eval.examples:
            labels = torch.tensor([example.labels])
            output = loaded.model(input_ids=torch.tensor([example.input_ids]), labels=labels)
            tokens = int((labels != -100).sum())
            total, count = total + float(output.loss) * tokens, count + tokens
    assert scores["answer_nll"] == pytest.approx(total / count, rel=1e-5)
    assert scores["answer_perplexity"] == pytest.approx(float(torch.tensor(total / count).exp()), rel=1e-4)
    assert scores["answer_tokens"] == count


@torch.no_grad()
def test_the_bases_answer_is_the_label_that_the_text_makes_likelier(material: MaterialMaker) -> None:
    loaded = material("classification")
    classifier, tokenizer = loaded.recipe.classifier, loaded.tokenizer
    assert classifier is not None

    def likelihood(text: str, label: str) -> float:
        question = f"Which of these labels fits the text: up, down? Answer with the label alone.\n\nText: {text}"
        turn = [{"role": "user", "content": question}]
        prompt = str(tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True))
        start, ids = len(tokenizer(prompt).input_ids), tokenizer(f"{prompt}{label}<|im_end|>").input_ids
        scores = loaded.model(input_ids=torch.tensor([ids])).logits[0].log_softmax(dim=-1)
        return sum(float(scores[at - 1, ids[at]]) for at in range(start, len(ids)))

    right = 0
    for example in loaded.eval.examples:
        text = str(tokenizer.decode(example.input_ids))
        gains = [likelihood(text, label) - likelihood("", label) for label in classifier.labels]
        right += gains.index(max(gains)) == example.labels
    scores = zero_shot_scores(loaded.model, tokenizer, classifier, loaded.eval.examples)
    assert scores is not None
    assert scores["accuracy"] == pytest.approx(right / len(loaded.eval.examples))
