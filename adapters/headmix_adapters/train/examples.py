"""Rows turned into what a model reads: token ids and labels.

Owns the accepted fields of each task, what is supervised (the answer alone), and what happens to examples that are
too long: cut at the end and counted. Serving tokenizes the same way: a prompt and its answer are encoded apart.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, TypeVar

import msgspec
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from headmix_adapters.config import ClassifierConfig
from headmix_adapters.train.errors import DataError
from headmix_adapters.train.rows import Row

IGNORED = -100
Text = Annotated[str, msgspec.Meta(min_length=1)]
Labels = int | tuple[float, ...] | list[int]
_Line = TypeVar("_Line")


@dataclass(frozen=True, slots=True)
class Example:
    """One text and what is to be learnt from it.

    `labels` is a label number (single_label), a tuple of one value a label (multi_label, regression), or a list of one
    token a position (generation; -100 is not learnt). `prefix_states` [tokens, D] stand in for the ids where the frozen
    layers below the adapter have been computed already.
    """

    input_ids: list[int]
    labels: Labels
    prefix_states: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Encoded:
    """A file's examples.

    `truncated` of them lost their end to `max_length`; `dropped` ones lost all of their answer and are left out.
    """

    examples: list[Example]
    truncated: int
    dropped: int

    @property
    def tokens(self) -> int:
        """All tokens of all examples, padding not counted."""
        return sum(len(example.input_ids) for example in self.examples)


class _SingleLabel(msgspec.Struct):
    text: Text
    label: str


class _MultiLabel(msgspec.Struct):
    text: Text
    labels: list[str] | str


class _Regression(msgspec.Struct):
    text: Text
    label: float | list[float]


class _Message(msgspec.Struct):
    role: str
    content: str


class _Conversation(msgspec.Struct):
    messages: list[_Message]


class _Completion(msgspec.Struct):
    prompt: str
    completion: Text


def encode_classification(
    rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, classifier: ClassifierConfig, max_length: int
) -> Encoded:
    """Encode `{"text", "label"}` rows (multi_label: `"labels"`; in CSV separated by `|`).

    Raises:
        DataError: a field is missing or of the wrong type, or a label is not the recipe's; file and line are named.
    """
    read_label = _label_reader(classifier)
    examples, truncated = [], 0
    for row in rows:
        text, labels = read_label(row)
        ids = _ids(tokenizer, text, special=True)
        if not ids:
            raise DataError(f"{row.place}: the text has no tokens")
        if len(ids) > max_length:
            # The tokenizer cuts the text and not the mark that an encoder's base expects behind it.
            ids = _cut_ids(tokenizer, text, max_length)
            truncated += 1
        examples.append(Example(ids, labels))
    return Encoded(examples, truncated, dropped=0)


def encode_generation(rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, max_length: int) -> Encoded:
    """Encode `{"messages"}` rows by the chat template, or `{"prompt", "completion"}` rows as they are.

    The last message is the answer; an answer ends with the end-of-turn token, which is learnt too.

    Raises:
        DataError: neither form, no answer, none that fits, a tokenizer that cannot do it; file and line are named.
    """
    examples, truncated, dropped = [], 0, 0
    for row in rows:
        prompt, answer = _prompt_and_answer(row, tokenizer)
        if not prompt:
            raise DataError(f"{row.place}: the prompt has no tokens")
        ids = (prompt + answer)[:max_length]
        if len(prompt) >= max_length:
            dropped += 1
            continue
        truncated += len(prompt) + len(answer) > max_length
        examples.append(Example(ids, ([IGNORED] * len(prompt) + answer)[:max_length]))
    if not examples:
        raise DataError(f"{rows[0].place}: no answer of this file fits within max_length {max_length}")
    return Encoded(examples, truncated, dropped)


def _label_reader(classifier: ClassifierConfig) -> Callable[[Row], tuple[str, Labels]]:
    numbers = {label: number for number, label in enumerate(classifier.labels)}

    def number_of(row: Row, label: str) -> int:
        if label not in numbers:
            raise DataError(f"{row.place}: label {label!r} is not among classifier.labels ({', '.join(numbers)})")
        return numbers[label]

    def single(row: Row) -> tuple[str, Labels]:
        line = _convert(row, _SingleLabel)
        return line.text, number_of(row, line.label)

    def multi(row: Row) -> tuple[str, Labels]:
        line = _convert(row, _MultiLabel)
        given = [part for part in line.labels.split("|") if part] if isinstance(line.labels, str) else line.labels
        chosen = {number_of(row, label) for label in given}
        return line.text, tuple(float(number in chosen) for number in range(len(numbers)))

    def regression(row: Row) -> tuple[str, Labels]:
        line = _convert(row, _Regression)
        values = line.label if isinstance(line.label, list) else [line.label]
        if len(values) != len(numbers):
            raise DataError(f"{row.place}: {len(values)} values for {len(numbers)} labels")
        return line.text, tuple(values)

    return {"single_label": single, "multi_label": multi, "regression": regression}[classifier.problem]


def _prompt_and_answer(row: Row, tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    if "messages" in row.fields:
        prompt, answer = _render(row, tokenizer)
        return _ids(tokenizer, prompt, special=False), _ids(tokenizer, answer, special=False)
    line = _convert(row, _Completion)
    if not isinstance(tokenizer.eos_token_id, int):
        raise DataError(f"{row.place}: the base's tokenizer has no end token to close a completion with")
    prompt_ids = _ids(tokenizer, line.prompt, special=True)
    return prompt_ids, [*_ids(tokenizer, line.completion, special=False), tokenizer.eos_token_id]


def _render(row: Row, tokenizer: PreTrainedTokenizerBase) -> tuple[str, str]:
    """Return the conversation up to the answer, and the answer with its end-of-turn token, as text."""
    messages = [msgspec.to_builtins(message) for message in _convert(row, _Conversation).messages]
    if len(messages) < 2 or messages[-1]["role"] != "assistant":
        raise DataError(f"{row.place}: messages must end with the assistant's answer to something")
    if not tokenizer.chat_template:
        raise DataError(f"{row.place}: the base has no chat template; use prompt and completion")
    prompt = str(tokenizer.apply_chat_template(messages[:-1], tokenize=False, add_generation_prompt=True))
    whole = str(tokenizer.apply_chat_template(messages, tokenize=False))
    if not whole.startswith(prompt):
        raise DataError(f"{row.place}: the chat template renders the answer's context differently from a prompt")
    # What follows the end-of-turn token (a newline in most templates) is never generated, so it is not learnt.
    return prompt, whole[len(prompt) :].rstrip()


def _ids(tokenizer: PreTrainedTokenizerBase, text: str, *, special: bool) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=special).input_ids
    return ids


def _cut_ids(tokenizer: PreTrainedTokenizerBase, text: str, max_length: int) -> list[int]:
    ids: list[int] = tokenizer(text, truncation=True, max_length=max_length).input_ids
    return ids


def _convert(row: Row, kind: type[_Line]) -> _Line:
    try:
        # Not strict: CSV has only strings, and a number is a number.
        return msgspec.convert(row.fields, kind, strict=False)
    except msgspec.ValidationError as error:
        raise DataError(f"{row.place}: {error}") from error
