"""Rows turned into what a model reads: token ids and labels.

Owns what is supervised (only answers), and what happens to examples that are too long: cut at the end and counted.
Serving uses the same tokenizer and template, and also encodes a prompt separately from its answer. `fields`, `labels`
and `conversation` know what a row's fields mean.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from headmix_adapters.artifact.faults import quoted
from headmix_adapters.config import ClassifierConfig
from headmix_adapters.text.base_text import BaseText
from headmix_adapters.text.chat_template import ChatTemplate, ChatTemplateError
from headmix_adapters.train.data.conversation import Turn, answers, read_turns
from headmix_adapters.train.data.fields import LEARNT, Fields, holds_something
from headmix_adapters.train.data.labels import ClassLabels, LabelReader
from headmix_adapters.train.data.rows import Row
from headmix_adapters.train.data.tools import read_tools
from headmix_adapters.train.errors import DataError

IGNORED = -100
Labels = ClassLabels | list[int]

_MESSAGES = frozenset({"messages", "tools"})
_COMPLETION = frozenset({"prompt", "completion"})
_ALL_EXCLUDED = "every row of this file has weight 0 or trainable false"


@dataclass(frozen=True, slots=True)
class Example:
    """One text and what to learn from it.

    `labels` is a label number (single_label), a tuple of one value per label (multi_label, regression), or a list of
    one token per position (generation; -100 is not learned). `prefix_states` [tokens, D] replace the ids if the frozen
    layers below the adapter have been computed already.
    """

    input_ids: list[int]
    labels: Labels
    prefix_states: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Encoded:
    """A file's examples.

    `truncated` of them were cut at `max_length`; `dropped` counts those that lost their whole answer and are left out.
    `excluded` counts the rows that the data itself marks as not to be learned (weight 0).
    """

    examples: list[Example]
    truncated: int
    dropped: int
    excluded: int = 0

    @property
    def tokens(self) -> int:
        """The number of tokens in all examples, without padding."""
        return sum(len(example.input_ids) for example in self.examples)


def encode_classification(
    rows: Sequence[Row],
    base: BaseText,
    classifier: ClassifierConfig,
    max_length: int,
    ignored: Collection[str] = (),
) -> Encoded:
    """Encode `{"text", "label"}` rows (multi_label: `"labels"`; in CSV separated by `|`).

    Raises:
        DataError: a field is missing, of the wrong type or unknown, or a label is not in the recipe; file and line are
            named.
    """
    reader = LabelReader(classifier, ignored)
    examples, truncated, excluded = [], 0, 0
    for row in rows:
        text, labels, learned = reader.read(row)
        if not learned:
            excluded += 1
            continue
        ids = base.tokenizer.encode(text)
        if not ids:
            raise DataError(f"{row.place}: the text has no tokens")
        if len(ids) > max_length:
            # The tokenizer cuts the text, but not the special token that an encoder expects after it.
            ids = base.tokenizer.encode_cut(text, max_length)
            truncated += 1
        examples.append(Example(ids, labels))
    _require_examples(rows, examples, _ALL_EXCLUDED)
    return Encoded(examples, truncated, dropped=0, excluded=excluded)


def encode_generation(rows: Sequence[Row], base: BaseText, max_length: int, ignored: Collection[str] = ()) -> Encoded:
    """Encode `{"messages"}` rows with the chat template, or `{"prompt", "completion"}` rows as they are.

    The last message is an answer, and so is each earlier assistant message that the data marks as learned: each answer
    is an example together with everything before it. It ends with the end-of-turn token, which is learned too.

    Raises:
        DataError: a row has neither form, an unknown field, no answer or none that fits, or the tokenizer cannot
            encode it; file and line are named.
    """
    examples, truncated, dropped, excluded = [], 0, 0, 0
    for row in rows:
        answered = _answered(row, base, ignored)
        excluded += not answered
        for prompt, answer in answered:
            if not prompt:
                raise DataError(f"{row.place}: the prompt has no tokens")
            ids = (prompt + answer)[:max_length]
            if len(prompt) >= max_length:
                dropped += 1
                continue
            truncated += len(prompt) + len(answer) > max_length
            examples.append(Example(ids, ([IGNORED] * len(prompt) + answer)[:max_length]))
    too_long = f"no answer of this file fits within max_length {max_length}"
    _require_examples(rows, examples, too_long if dropped else _ALL_EXCLUDED)
    return Encoded(examples, truncated, dropped, excluded)


def _require_examples(rows: Sequence[Row], examples: Sequence[Example], reason: str) -> None:
    if not examples:
        raise DataError(f"{rows[0].place.rpartition(':')[0]}: {reason}")


def _answered(row: Row, base: BaseText, ignored: Collection[str]) -> list[tuple[list[int], list[int]]]:
    """Return the ids of each answer to learn, preceded by those of everything before it."""
    known = _form(row)
    fields = Fields(row.place, row.fields, LEARNT | known, ignored)
    if known == _MESSAGES:
        return _conversation(fields, base, ignored)
    if known != _COMPLETION:
        raise DataError(f"{row.place}: the row has neither messages nor prompt and completion")
    prompt, completion = fields.text("prompt", empty=True), fields.text("completion")
    tokenizer = base.tokenizer
    if tokenizer.end_token is None:
        raise DataError(f"{row.place}: the base's tokenizer has no end token to close a completion with")
    ids = [*tokenizer.encode(completion, add_special_tokens=False), tokenizer.end_token]
    return [] if fields.learned() is False else [(tokenizer.encode(prompt), ids)]


def _form(row: Row) -> frozenset[str]:
    """Return the fields of the form a row has, or of both forms if it has neither."""
    if holds_something(row.fields.get("messages")):
        return _MESSAGES
    return _COMPLETION if _COMPLETION & row.fields.keys() else _MESSAGES | _COMPLETION


def _conversation(fields: Fields, base: BaseText, ignored: Collection[str]) -> list[tuple[list[int], list[int]]]:
    turns = read_turns(fields.where, fields.value("messages"), ignored)
    chosen = answers(fields.where, turns)
    if fields.learned() is False:
        return []
    tools = read_tools(fields.where, fields.value("tools")) if "tools" in fields else []
    texts = [_render(fields.where, base.chat_template, turns[: number + 1], tools) for number in chosen]
    encode = base.tokenizer.encode
    return [
        (encode(prompt, add_special_tokens=False), encode(answer, add_special_tokens=False)) for prompt, answer in texts
    ]


def _render(
    where: str, template: ChatTemplate | None, turns: Sequence[Turn], tools: list[dict[str, Any]]
) -> tuple[str, str]:
    """Return, as text, the conversation before its last message, and that answer with its end-of-turn token."""
    if template is None:
        raise DataError(f"{where}: the base has no chat template; use prompt and completion")
    messages = [turn.message() for turn in turns]
    try:
        prompt = template.render(messages[:-1], tools=tools or None)
        whole = template.render(messages, tools=tools or None, add_generation_prompt=False)
        plain = template.render(messages[:-1]) if tools else None
    except ChatTemplateError as error:
        raise DataError(f"{where}: the chat template refuses these messages: {quoted(str(error))}") from error
    if not whole.startswith(prompt):
        raise DataError(f"{where}: the chat template renders the answer's context differently from a prompt")
    # Text after the end-of-turn token (a newline in most templates) is never generated, so it is not learned.
    answer = whole[len(prompt) :].rstrip()
    if prompt == plain or any(name not in answer for name in turns[-1].called):
        raise DataError(f"{where}: the chat template does not show tools; name one that does (chat_template)")
    return prompt, answer
