"""Rows held out from training to score the adapter with, if the recipe names no evaluation file.

Owns the choice of rows: the same ones for the same data and seed, an equal share of each label, and never a text that
is also trained on.
"""

import json
import random
from collections import Counter
from collections.abc import Iterable, Sequence

from headmix_adapters.artifact.digest import digest_bytes
from headmix_adapters.train.data.rows import Row
from headmix_adapters.train.errors import DataError

SAME_QUESTION = (
    "all rows ask the same, and a text cannot be trained on and held out; give a file to score with (--eval, data.eval "
    "in a recipe, validation_file of a job)"
)
_LEAST = 2


def split_rows(rows: Sequence[Row], share: float, seed: int) -> tuple[list[Row], list[Row]]:
    """Return the rows to learn and those to hold out, each in the file's order and at least one.

    Raises:
        DataError: there is only one distinct text.
    """
    groups: dict[str, list[int]] = {}
    for number, row in enumerate(rows):
        groups.setdefault(question_of(row), []).append(number)
    if len(groups) < _LEAST:
        raise DataError(f"{rows[0].place.rpartition(':')[0]}: {SAME_QUESTION}")
    order = list(groups.values())
    random.Random(f"{seed}/held-out").shuffle(order)  # noqa: S311 - shuffling, not security
    chosen = set(_chosen(order, [_label(rows[group[0]]) for group in order], share))
    held_out = [row for number, row in enumerate(rows) if number in chosen]
    return [row for number, row in enumerate(rows) if number not in chosen], held_out


def _chosen(groups: Sequence[Sequence[int]], labels: Sequence[str], share: float) -> Iterable[int]:
    """Walk the groups and take each that keeps its label's held-out count within its (rounded) share of those seen."""
    seen: Counter[str] = Counter()
    held: Counter[str] = Counter()
    taken: list[Sequence[int]] = []
    for group, label in zip(groups, labels, strict=True):
        seen[label] += len(group)
        if held[label] + len(group) <= share * seen[label] + 0.5:
            held[label] += len(group)
            taken.append(group)
    something_of_each = taken[: len(groups) - 1] or [min(groups, key=len)]
    return [number for group in something_of_each for number in group]


def rows_digest(rows: Iterable[Row]) -> str:
    """Return an identity of rows: the same for the same fields, in whatever order the rows and fields are."""
    lines = sorted(json.dumps(row.fields, sort_keys=True, default=str) for row in rows)
    return digest_bytes("\n".join(lines).encode())


def question_of(row: Row) -> str:
    """Return what a row asks, without the answer: rows with the same question belong together."""
    messages = row.fields.get("messages")
    turns = messages[:-1] if isinstance(messages, list) else messages
    return json.dumps([row.fields.get("text"), row.fields.get("prompt"), turns])


def _label(row: Row) -> str:
    label = row.fields.get("label", row.fields.get("labels"))
    return json.dumps(label.strip() if isinstance(label, str) else label)
