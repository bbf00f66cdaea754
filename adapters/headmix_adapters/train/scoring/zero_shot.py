"""The base's own score on a single-label classification task: asked in words, it predicts its most probable label.

The question names every label and asks for one of them. A label's score is the log-likelihood of the whole answer (all
its tokens and the end of the turn) after the question, minus that after the same question about an empty text: what the
text adds. Without the second part a small base gives the same label whatever it reads. No examples, no training.
Source: domain-conditional pointwise mutual information, Holtzman et al., EMNLP 2021 (arXiv 2104.08315).

Owns what asking may take: how many labels a question may name, which texts are asked, and how many answers are computed
side by side.
"""

import copy
import logging
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from headmix_adapters.config import ClassifierConfig
from headmix_adapters.inject.backbone import positions_of
from headmix_adapters.text.base_text import BaseText
from headmix_adapters.text.tokenizer import BaseTokenizer
from headmix_adapters.train.data.examples import Example
from headmix_adapters.train.scoring.evaluate import Evaluation, evaluate_labels
from headmix_adapters.train.scoring.metrics import Metric

logger = logging.getLogger(__name__)

MOST_LABELS = 256
"""A question that names more labels is not asked: time and memory grow with the square of their number."""
_ANSWER_BYTES = 2**28
"""How much the answers that are computed side by side may take: their caches and their logits."""
_QUESTION = "Which of these labels fits the text: {labels}? Answer with the label alone.\n\nText: {text}"


@torch.no_grad()
def evaluate_zero_shot(
    model: PreTrainedModel,
    base: BaseText,
    classifier: ClassifierConfig,
    examples: Sequence[Example],
    metrics: Sequence[Metric] = (),
    most_tokens: int | None = None,
) -> Evaluation | None:
    """Return the base's own scores, or None if there is no such question.

    There is none for several labels per text and for regression, nor, with a warning, if it names too many labels or is
    longer than the base's positions. If asking about every text takes more than `most_tokens`, some are asked, evenly
    spread over the examples, and the scores tell how many (`asked_texts`).
    """
    if classifier.problem != "single_label":
        return None
    if (count := len(classifier.labels)) > MOST_LABELS:
        logger.warning("the base alone is not scored: a question with %d labels is too long", count)
        return None
    asking = _Asking(model, base, classifier, [_answer_ids(base.tokenizer, label) for label in classifier.labels])
    blank = asking.question([])
    if not asking.fits(blank):
        logger.warning(
            "the base alone is not scored: a question with its %d labels is longer than its positions", count
        )
        return None
    asked = list(examples) if most_tokens is None else _spread(examples, most_tokens // asking.cost(blank, examples))
    unread = asking.likelihoods(blank)
    rows = [asking.likelihoods(asking.question(example.input_ids)) for example in asked]
    labels = torch.tensor([example.labels for example in asked])
    judged = evaluate_labels(classifier, torch.stack(rows) - unread, labels, metrics)
    if len(asked) == len(examples):
        return judged
    return msgspec.structs.replace(judged, scores=judged.scores | {"asked_texts": float(len(asked))})


@dataclass(frozen=True, slots=True)
class _Asking:
    """One task's question, put to one base; `answers` are the labels' tokens."""

    model: PreTrainedModel
    base: BaseText
    classifier: ClassifierConfig
    answers: Sequence[Sequence[int]]

    def question(self, text_ids: Sequence[int]) -> list[int]:
        """Return the question about a text, whose end is cut off if the base has too few positions."""
        while True:
            ids = _question_ids(self.base, self.classifier, self.base.tokenizer.decode(list(text_ids)))
            excess = self._length(ids) - (self._positions or self._length(ids))
            if excess <= 0 or not text_ids:
                return ids
            text_ids = text_ids[:-excess]

    def fits(self, question: Sequence[int]) -> bool:
        """Return whether the base has positions for the question and its longest answer."""
        return self._positions is None or self._length(question) <= self._positions

    def cost(self, blank: Sequence[int], examples: Sequence[Example]) -> int:
        """Return about how many tokens are computed for one text."""
        text = sum(len(example.input_ids) for example in examples) // max(len(examples), 1)
        return len(blank) + text + len(self.answers) * self._width

    def likelihoods(self, question: Sequence[int]) -> Tensor:
        """Return each answer's log-likelihood, [answers]; the question is computed only once."""
        asked = torch.tensor([question], device=self.model.device)
        cache = DynamicCache(config=self.model.config)
        first = self.model(input_ids=asked, past_key_values=cache, logits_to_keep=1).logits[0, -1].log_softmax(dim=-1)
        side_by_side = max(1, _ANSWER_BYTES // self._answer_bytes(cache, first))
        parts = [
            _continued(self.model, cache, first, self.answers[start : start + side_by_side])
            for start in range(0, len(self.answers), side_by_side)
        ]
        return torch.cat(parts).cpu()

    def _answer_bytes(self, cache: DynamicCache, first: Tensor) -> int:
        kept = [tensor for layer in cache.layers for tensor in vars(layer).values() if isinstance(tensor, Tensor)]
        return sum(tensor.nbytes for tensor in kept) + self._width * first.nbytes

    def _length(self, question: Sequence[int]) -> int:
        return len(question) + self._width

    @property
    def _width(self) -> int:
        return max(map(len, self.answers))

    @property
    def _positions(self) -> int | None:
        return positions_of(self.model)


def _spread(examples: Sequence[Example], most: int) -> list[Example]:
    """Return at most so many examples (at least one), evenly spread: a file may be sorted by label."""
    count = min(max(most, 1), len(examples))
    return [examples[number * len(examples) // count] for number in range(count)]


def _question_ids(base: BaseText, classifier: ClassifierConfig, text: str) -> list[int]:
    question = _QUESTION.format(labels=", ".join(classifier.labels), text=text)
    if base.chat_template is None:
        return base.tokenizer.encode(f"{question}\nLabel: ")
    prompt = base.chat_template.render([{"role": "user", "content": question}])
    return base.tokenizer.encode(prompt, add_special_tokens=False)


def _answer_ids(tokenizer: BaseTokenizer, label: str) -> list[int]:
    ids = tokenizer.encode(label, add_special_tokens=False)
    return ids if tokenizer.end_token is None else [*ids, tokenizer.end_token]


def _continued(model: PreTrainedModel, cache: DynamicCache, first: Tensor, answers: Sequence[Sequence[int]]) -> Tensor:
    """Return the log-likelihoods of some answers; `cache` holds the question and `first` scores what follows it."""
    own = copy.deepcopy(cache)
    own.batch_repeat_interleave(len(answers))
    width = max(map(len, answers))
    # Padding comes after the tokens that are scored, so it does not affect a causal model.
    given = torch.tensor([[*answer, *[0] * (width - len(answer))] for answer in answers], device=model.device)
    later = model(input_ids=given, past_key_values=own).logits.log_softmax(dim=-1)
    scores = torch.cat([first.expand(len(answers), 1, -1), later[:, :-1]], dim=1)
    of_tokens = scores.gather(-1, given.unsqueeze(-1)).squeeze(-1)
    return torch.stack([of_tokens[row, : len(answer)].sum() for row, answer in enumerate(answers)])
