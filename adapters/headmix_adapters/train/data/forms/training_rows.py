"""A data file's rows in the form that training reads, and what is worth telling about it."""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from headmix_adapters.config import Problem
from headmix_adapters.train.data.fields import left_out
from headmix_adapters.train.data.forms.label_chats import LabelChats
from headmix_adapters.train.data.forms.openai_form import in_openai_form
from headmix_adapters.train.data.labels import spelling_notes
from headmix_adapters.train.data.rows import Row, read_rows


@dataclass(frozen=True, slots=True)
class TrainingRows:
    """Rows, and remarks on fields and messages that are left out."""

    rows: list[Row]
    notes: tuple[str, ...] = ()


def read_training_rows(path: Path, problem: Problem | None, ignored: Collection[str]) -> TrainingRows:
    """Read a data file for classification, or without `problem` for generation.

    Raises:
        DataError: a row cannot be read; file and line are named.
    """
    given = read_rows(path)
    rows = [in_openai_form(row, ignored) for row in given]
    counts = Counter(name for row in given for name in set(left_out(row.fields, ignored)))
    notes = [f"{path.name}: field {name!r} of {count:,} rows is left out, as asked" for name, count in counts.items()]
    if problem is not None:
        chats = LabelChats(problem, ignored)
        rows = [chats.read(row) for row in rows]
        notes += [f"{path.name}: {note}" for note in chats.notes()]
        labels = {str(row.fields.get("label")).strip() for row in rows} if problem == "single_label" else set()
        notes += [f"{path.name}: {note}" for note in spelling_notes(labels)]
    return TrainingRows(rows, tuple(notes))
