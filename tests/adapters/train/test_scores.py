"""Scores are what their names say, for the adapter and for the base when asked in words."""

from collections.abc import Callable

import pytest
import torch

from harness.adapters.artifacts import classifier_config
from headmix_adapters.train.prepare import Material
from headmix_adapters.train.scoring.evaluate import answer_scores, evaluate_labels
from headmix_adapters.train.scoring.zero_shot import evaluate_zero_shot

MaterialMaker = Callable[..., Material]


def test_single_label_scores_count_right_labels_and_average_f1_over_labels() -> None:
    logits = torch.tensor([[2.0, 0, 0], [0, 2, 0], [2, 0, 0], [0, 2, 0]])
    judged = evaluate_labels(classifier_config("a", "b", "c"), logits, torch.tensor([0, 1, 1, 1]))
    assert judged.scores["accuracy"] == 0.75
    # Label a: one hit, one false; label b: two hits, one missed; label c does not occur.
    assert judged.label_f1 == pytest.approx({"a": 2 / 3, "b": 4 / 5})
    assert judged.scores["macro_f1"] == pytest.approx((2 / 3 + 4 / 5) / 2)


def test_multi_label_scores_want_the_whole_set() -> None:
    logits = torch.tensor([[1.0, -1], [1, 1]])
    head = classifier_config("a", "b", problem="multi_label")
    judged = evaluate_labels(head, logits, torch.tensor([[1.0, 0], [1, 0]]))
    assert judged.scores == {"accuracy": 0.5, "macro_f1": pytest.approx(0.5)}
    assert judged.label_f1 == {"a": 1.0, "b": 0.0}


def test_regression_scores_are_the_mean_squared_error() -> None:
    head = classifier_config("score", problem="regression")
    judged = evaluate_labels(head, torch.tensor([[1.0], [3.0]]), torch.tensor([[1.0], [1.0]]))
    assert (judged.scores, judged.label_f1) == ({"mean_squared_error": 2.0}, {})


def test_answer_scores_weigh_every_supervised_token_alike(material: MaterialMaker) -> None:
    loaded = material("generation")
    scores = answer_scores(loaded.model, loaded.eval.examples, batch_size=5)
    total, count = 0.0, 0
    with torch.no_grad():
        for example in loaded.eval.examples:
            ids, labels = torch.tensor([[example.input_ids], [example.labels]], device=loaded.model.device)
            output = loaded.model(input_ids=ids, labels=labels)
            tokens = int((labels != -100).sum())
            total, count = total + float(output.loss) * tokens, count + tokens
    assert scores["answer_nll"] == pytest.approx(total / count, rel=1e-5)
    assert scores["answer_perplexity"] == pytest.approx(float(torch.tensor(total / count).exp()), rel=1e-4)
    assert scores["answer_tokens"] == count


@torch.no_grad()
def test_the_bases_answer_is_the_label_that_the_text_makes_likelier(material: MaterialMaker) -> None:
    loaded = material("classification")
    classifier, tokenizer, template = loaded.recipe.classifier, loaded.text.tokenizer, loaded.text.chat_template
    assert classifier is not None
    assert template is not None

    def likelihood(text: str, label: str) -> float:
        question = f"Which of these labels fits the text: up, down? Answer with the label alone.\n\nText: {text}"
        turn = [{"role": "user", "content": question}]
        prompt = template.render(turn)
        start, ids = len(tokenizer.encode(prompt)), tokenizer.encode(f"{prompt}{label}<|im_end|>")
        scores = loaded.model(input_ids=torch.tensor([ids], device=loaded.model.device)).logits[0].log_softmax(dim=-1)
        return sum(float(scores[at - 1, ids[at]]) for at in range(start, len(ids)))

    right = 0
    for example in loaded.eval.examples:
        text = tokenizer.decode(example.input_ids)
        gains = [likelihood(text, label) - likelihood("", label) for label in classifier.labels]
        right += gains.index(max(gains)) == example.labels
    judged = evaluate_zero_shot(loaded.model, loaded.text, classifier, loaded.eval.examples)
    assert judged is not None
    assert judged.scores["accuracy"] == pytest.approx(right / len(loaded.eval.examples))
