"""Chats whose answer is a label, as rows of text and label: what OpenAI's fine-tuning of classifiers takes.

Owns what becomes of the other messages. A classifier is served the text alone, so a system message that says the same
in every row is left out and counted; one that differs from row to row says something, and is refused.
"""

from collections.abc import Collection, Iterator
from typing import Any

from headmix_adapters.config import Problem
from headmix_adapters.train.data.conversation import Turn, answers, read_turns
from headmix_adapters.train.data.fields import holds_something
from headmix_adapters.train.data.labels import label_field
from headmix_adapters.train.data.rows import Row
from headmix_adapters.train.errors import DataError

_TURNED = frozenset({"messages", "prompt", "completion"})


class LabelChats:
    """Turns the rows of one file."""

    def __init__(self, problem: Problem, ignored: Collection[str]) -> None:
        self._field = label_field(problem)
        self._ignored = ignored
        self._system: str | None = None
        self._first = ""
        self._left_out = 0

    def read(self, row: Row) -> Row:
        """Return a row of text and label; one that is not of messages, or prompt and completion, as it is.

        Raises:
            DataError: the messages are not one of the user and the answer, or the system's differs from other rows'.
        """
        fields = row.fields
        if holds_something(fields.get("text")) or self._field in fields:
            return row
        rest = {name: value for name, value in fields.items() if name not in _TURNED}
        if holds_something(messages := fields.get("messages")):
            return Row(row.place, rest | self._labelled(row.place, read_turns(row.place, messages, self._ignored)))
        if {"prompt", "completion"} <= fields.keys():
            answer = fields["completion"]
            label = answer.strip() if isinstance(answer, str) else answer
            return Row(row.place, rest | {"text": fields["prompt"], self._field: label})
        return row

    def notes(self) -> Iterator[str]:
        """Yield what has been left out."""
        if self._left_out:
            yield f"the system message of {self._left_out:,} rows is left out: a classifier is served the text alone"

    def _labelled(self, where: str, turns: list[Turn]) -> dict[str, Any]:
        *before, asked, answered = turns
        if asked.role != "user" or any(turn.role != "system" for turn in before):
            raise DataError(f"{where}: a chat that becomes a text with its label has one message of the user")
        if answered.content is None or answered.called:
            raise DataError(f"{where}: the answer calls a tool; a label is a text")
        answers(where, turns)
        self._check_system(where, "\n".join(turn.content or "" for turn in before))
        mark = {} if answered.learned is None else {"trainable": answered.learned}
        return {"text": asked.content, self._field: answered.content.strip()} | mark

    def _check_system(self, where: str, system: str) -> None:
        if self._system is None:
            self._system, self._first = system, where.rpartition(":")[2]
        if system != self._system:
            raise DataError(
                f"{where}: the system message differs from line {self._first}'s, but a classifier is served the "
                "user's message alone; put what differs there"
            )
        self._left_out += bool(system)
