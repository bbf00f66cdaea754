"""The base's own score on a single-label classification task: asked in words, it predicts its most probable label.

The question names every label and asks for one of them. A label's score is the log-likelihood of the whole answer (all
its tokens and the end of the turn) after the question, minus that after the same question about an empty text: what the
text adds. Without the second part a small base gives the same label whatever it reads. No examples, no training.
Source: domain-conditional pointwise mutual information, Holtzman et al., EMNLP 2021 (arXiv 2104.08315).
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from headmix_adapters.config import ClassifierConfig
from headmix_adapters.text.base_text import BaseText
from headmix_adapters.text.tokenizer import BaseTokenizer
from headmix_adapters.train.data.examples import Example
from headmix_adapters.train.scoring.evaluate import Evaluation, evaluate_labels
from headmix_adapters.train.scoring.metrics import Metric

_QUESTION = "Which of these labels fits the text: {labels}? Answer with the label alone.\n\nText: {text}"


@torch.no_grad()
def evaluate_zero_shot(
    model: PreTrainedModel,
    base: BaseText,
    classifier: ClassifierConfig,
    examples: Sequence[Example],
    metrics: Sequence[Metric] = (),
) -> Evaluation | None:
    """Return the base's own scores; None if there is no such question (several labels per text, regression)."""
    if classifier.problem != "single_label":
        return None
    answers = [_answer_ids(base.tokenizer, label) for label in classifier.labels]
    unread = _label_likelihoods(model, _question_ids(base, classifier, ""), answers)
    texts = [base.tokenizer.decode(example.input_ids) for example in examples]
    rows = [_label_likelihoods(model, _question_ids(base, classifier, text), answers) for text in texts]
    labels = torch.tensor([example.labels for example in examples])
    return evaluate_labels(classifier, torch.stack(rows) - unread, labels, metrics)


def _question_ids(base: BaseText, classifier: ClassifierConfig, text: str) -> list[int]:
    question = _QUESTION.format(labels=", ".join(classifier.labels), text=text)
    if base.chat_template is None:
        return base.tokenizer.encode(f"{question}\nLabel: ")
    prompt = base.chat_template.render([{"role": "user", "content": question}])
    return base.tokenizer.encode(prompt, add_special_tokens=False)


def _answer_ids(tokenizer: BaseTokenizer, label: str) -> list[int]:
    ids = tokenizer.encode(label, add_special_tokens=False)
    return ids if tokenizer.end_token is None else [*ids, tokenizer.end_token]


def _label_likelihoods(model: PreTrainedModel, question: list[int], answers: Sequence[list[int]]) -> Tensor:
    """Return each answer's log-likelihood, [answers]; the question is computed only once."""
    asked = torch.tensor([question], device=model.device)
    cache = DynamicCache(config=model.config)
    first = model(input_ids=asked, past_key_values=cache, logits_to_keep=1).logits[0, -1].log_softmax(dim=-1)
    cache.batch_repeat_interleave(len(answers))
    width = max(len(answer) for answer in answers)
    # Padding comes after the tokens that are scored, so it does not affect a causal model.
    given = torch.tensor([answer + [0] * (width - len(answer)) for answer in answers], device=model.device)
    later = model(input_ids=given, past_key_values=cache).logits.log_softmax(dim=-1)
    scores = torch.cat([first.expand(len(answers), 1, -1), later[:, :-1]], dim=1)
    of_tokens = scores.gather(-1, given.unsqueeze(-1)).squeeze(-1)
    return torch.stack([of_tokens[row, : len(answer)].sum() for row, answer in enumerate(answers)]).cpu()
