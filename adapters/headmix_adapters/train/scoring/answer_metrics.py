"""Scores of generated answers against those of the data: texts in, numbers out. BLEU and chrF are sacrebleu's."""

import re
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from types import MappingProxyType

from headmix_adapters.train.scoring.metrics import Metric

Texts = Sequence[str]
_WORD = re.compile(r"\w+")


def answer_text_scores(metrics: Sequence[Metric], answers: Texts, expected: Texts) -> dict[str, float]:
    """Return the scores: exact_match and rouge_l from 0 to 1, bleu and chrf from 0 to 100."""
    return {name: _SCORES[name](answers, expected) for name in metrics if name in _SCORES}


def _exact_match(answers: Texts, expected: Texts) -> float:
    return sum(one.strip() == other.strip() for one, other in zip(answers, expected, strict=True)) / len(answers)


def _rouge_l(answers: Texts, expected: Texts) -> float:
    return sum(map(rouge_l, answers, expected)) / len(answers)


def rouge_l(answer: str, expected: str) -> float:
    """Return ROUGE-L's F1: of the words in the longest common subsequence, case ignored; 1 for two texts without words.

    Source: Lin, "ROUGE: a package for automatic evaluation of summaries", 2004, with beta 1. Words are those of any
    script, where the package of that name knows only a to z and digits.
    """
    one, other = _WORD.findall(answer.lower()), _WORD.findall(expected.lower())
    if not one or not other:
        return float(one == other)
    return 2 * common_length(one, other) / (len(one) + len(other))


def common_length(one: Texts, other: Texts) -> int:
    """Return the length of the longest common subsequence, by Hyyrö's bit-parallel recurrence.

    Source: Hyyrö, "Bit-parallel LCS-length computation revisited", 2004.
    """
    places: dict[str, int] = {}
    for place, word in enumerate(one):
        places[word] = places.get(word, 0) | 1 << place
    full = (1 << len(one)) - 1
    row = full
    for word in other:
        hits = row & places.get(word, 0)
        row = ((row + hits) | (row - hits)) & full
    return len(one) - row.bit_count()


def _bleu(answers: Texts, expected: Texts) -> float:
    return float(import_module("sacrebleu").corpus_bleu(list(answers), [list(expected)]).score)


def _chrf(answers: Texts, expected: Texts) -> float:
    return float(import_module("sacrebleu").corpus_chrf(list(answers), [list(expected)]).score)


_SCORES: Mapping[str, Callable[[Texts, Texts], float]] = MappingProxyType(
    {"exact_match": _exact_match, "rouge_l": _rouge_l, "bleu": _bleu, "chrf": _chrf}
)
