"""Example prompts for an artifact's header, taken from held-out data if a recipe names none. Does not load torch.

Owns the choice: short rows, the first of each label, or the first conversations of one question and one answer.
"""

from collections.abc import Iterable, Iterator
from itertools import islice

from headmix_adapters.artifact.limits import Limits
from headmix_adapters.config import ClassifierConfig, ExamplePrompt
from headmix_adapters.printable import printable
from headmix_adapters.train.data.rows import Row

MAX_CHARS = 300
MAX_ANSWERS = 2


def examples_from(rows: Iterable[Row], classifier: ClassifierConfig | None) -> tuple[ExamplePrompt, ...]:
    """Return a few examples, or none if no row has the right form and is short enough."""
    if classifier is None:
        return tuple(islice(_answered(rows), MAX_ANSWERS))
    firsts = {example.expect: example for example in reversed(list(_labelled(rows, classifier)))}
    return tuple(islice((firsts[label] for label in classifier.labels if label in firsts), Limits().max_examples))


def _labelled(rows: Iterable[Row], classifier: ClassifierConfig) -> Iterator[ExamplePrompt]:
    if classifier.problem != "single_label":
        return
    for row in rows:
        text, label = row.fields.get("text"), row.fields.get("label")
        if _is_short(text) and isinstance(label, (str, int)):
            yield ExamplePrompt(prompt=str(text), expect=str(label).strip())


def _answered(rows: Iterable[Row]) -> Iterator[ExamplePrompt]:
    for row in rows:
        if (found := _question_and_answer(row.fields.get("messages"))) is not None:
            yield ExamplePrompt(prompt=found[0], expect=found[1], chat=True)
        elif _is_short(prompt := row.fields.get("prompt")) and _is_short(completion := row.fields.get("completion")):
            yield ExamplePrompt(prompt=str(prompt), expect=str(completion))


def _question_and_answer(messages: object) -> tuple[str, str] | None:
    """Return the question and the answer of a conversation that is one user message and one answer."""
    if not isinstance(messages, list) or len(messages) != 2 or not all(isinstance(one, dict) for one in messages):
        return None
    asked, answered = messages
    if (asked.get("role"), answered.get("role")) != ("user", "assistant"):
        return None
    question, answer = asked.get("content"), answered.get("content")
    return (str(question), str(answer)) if _is_short(question) and _is_short(answer) else None


def _is_short(text: object) -> bool:
    """Return whether a text is allowed in a header and short enough to read at a glance."""
    return (
        isinstance(text, str) and bool(text.strip()) and len(text) <= MAX_CHARS and printable(text, lines=True) == text
    )
