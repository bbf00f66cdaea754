"""Rows turned into what a model reads: token ids and labels.

Owns what is supervised (only answers), and what happens to examples that are too long: cut at the end and counted.
Serving uses the same tokenizer and template, and also encodes a prompt separately from its answer. `labels` and
`answers` know what a row's fields mean.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from torch import Tensor

from headmix_adapters.config import ClassifierConfig
from headmix_adapters.text.base_text import BaseText
from headmix_adapters.train.data.answers import read_generation
from headmix_adapters.train.data.conversation import Learn
from headmix_adapters.train.data.labels import ClassLabels, LabelReader
from headmix_adapters.train.data.rows import Row
from headmix_adapters.train.errors import DataError

IGNORED = -100
Labels = ClassLabels | list[int]

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


def encode_generation(
    rows: Sequence[Row], base: BaseText, max_length: int, ignored: Collection[str] = (), learn: Learn = "last"
) -> Encoded:
    """Encode `{"messages"}` rows with the chat template, or `{"prompt", "completion"}` rows as they are.

    The last message is an answer, and so is each earlier assistant message that the data marks as learned (with `learn`
    "all": each that it doesn't exclude): each answer is an example together with everything before it. It ends with the
    end-of-turn token, which is learned too.

    Raises:
        DataError: a row has neither form, an unknown field, no answer or none that fits, or the tokenizer cannot
            encode it; file and line are named.
    """
    examples, truncated, dropped, excluded = [], 0, 0, 0
    for row in rows:
        read = read_generation(row, ignored, learn)
        excluded += not read.lengths()
        for answer in read.answers(base):
            prompt, learned = answer.encode(row.place, base)
            ids = (prompt + learned)[:max_length]
            if len(prompt) >= max_length:
                dropped += 1
                continue
            truncated += len(prompt) + len(learned) > max_length
            examples.append(Example(ids, ([IGNORED] * len(prompt) + learned)[:max_length]))
    too_long = f"no answer of this file fits within max_length {max_length}"
    _require_examples(rows, examples, too_long if dropped else _ALL_EXCLUDED)
    return Encoded(examples, truncated, dropped, excluded)


def _require_examples(rows: Sequence[Row], examples: Sequence[Example], reason: str) -> None:
    if not examples:
        raise DataError(f"{rows[0].place.rpartition(':')[0]}: {reason}")
