"""What a file's rows are for, told from the first one's fields."""

from headmix_adapters.config import Problem, Task
from headmix_adapters.train.data.rows import Row
from headmix_adapters.train.errors import DataError


def task_of(row: Row) -> Task:
    """Return the task of rows in `in_openai_form`.

    Raises:
        DataError: it is none of the known forms; file and line are named.
    """
    fields = row.fields
    if "text" in fields and ("label" in fields or "labels" in fields):
        return "classification"
    if "messages" in fields or ("prompt" in fields and "completion" in fields):
        return "generation"
    raise DataError(
        f"{row.place}: a row has text and label, messages, or prompt and completion (fields: {', '.join(fields)})"
    )


def problem_of(row: Row) -> Problem:
    """Return what kind of labels rows have that don't hold numbers."""
    return "multi_label" if "labels" in row.fields else "single_label"
