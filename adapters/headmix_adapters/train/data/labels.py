"""The text and labels of a classification row, in the form the classifier's problem requires. Does not load torch."""

from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import islice

from headmix_adapters.artifact.faults import quoted
from headmix_adapters.config import ClassifierConfig, Problem
from headmix_adapters.train.data.fields import LEARNT, Fields, as_number, as_text
from headmix_adapters.train.data.rows import Row
from headmix_adapters.train.errors import DataError

ClassLabels = int | tuple[float, ...]
_NAMED_LABELS = 10
"""How many of the recipe's labels an error message lists."""


class LabelReader:
    """Reads rows for one classifier, without the fields that the recipe ignores."""

    def __init__(self, classifier: ClassifierConfig, ignored: Collection[str]) -> None:
        self._numbers = {label: number for number, label in enumerate(classifier.labels)}
        self._problem = classifier.problem
        readers: dict[Problem, Callable[[Fields], ClassLabels]] = {
            "single_label": self._single,
            "multi_label": self._multi,
            "regression": self._regression,
        }
        self._read = readers[classifier.problem]
        self._ignored = ignored

    def read(self, row: Row) -> tuple[str, ClassLabels, bool]:
        """Return a row's text, its labels, and whether to learn it.

        Raises:
            DataError: a field is missing, of the wrong type or unknown, or a label is not in the recipe.
        """
        fields = label_fields(row, self._problem, self._ignored)
        return fields.text("text"), self._read(fields), fields.learned() is not False

    def _single(self, fields: Fields) -> int:
        (name,) = label_names(fields, "single_label")
        return self._number_of(fields, name)

    def _multi(self, fields: Fields) -> tuple[float, ...]:
        chosen = {self._number_of(fields, name) for name in label_names(fields, "multi_label")}
        return tuple(float(number in chosen) for number in range(len(self._numbers)))

    def _regression(self, fields: Fields) -> tuple[float, ...]:
        values = label_values(fields)
        if len(values) != len(self._numbers):
            raise DataError(f"{fields.where}: {len(values)} values for {len(self._numbers)} labels")
        return values

    def _number_of(self, fields: Fields, label: str) -> int:
        if label not in self._numbers:
            known = ", ".join(map(quoted, islice(self._numbers, _NAMED_LABELS)))
            more = ", ..." if len(self._numbers) > _NAMED_LABELS else ""
            raise DataError(f"{fields.where}: label {quoted(label)!r} is not among classifier.labels ({known}{more})")
        return self._numbers[label]


def label_fields(row: Row, problem: Problem, ignored: Collection[str]) -> Fields:
    """Return a row's fields.

    Raises:
        DataError: there is one that a classification row doesn't have.
    """
    return Fields(row.place, row.fields, LEARNT | {"text", label_field(problem)}, ignored)


def label_field(problem: Problem) -> str:
    """Return the name of the field that holds the label, or the labels."""
    return "labels" if problem == "multi_label" else "label"


def label_names(fields: Fields, problem: Problem) -> list[str]:
    """Return the labels of a row: one, or for multi_label any number, which may be one text separated by `|`.

    Blanks around a label don't count: a CSV file may have one behind each comma.

    Raises:
        DataError: they are neither texts nor whole numbers, or one is empty.
    """
    if problem == "single_label":
        return [_label(f"{fields.where}: label", fields.value("label"))]
    given, where = fields.value("labels"), f"{fields.where}: labels"
    if isinstance(given, list):
        return [_label(f"{where}[{number}]", name) for number, name in enumerate(given)]
    return [name.strip() for name in as_text(where, given).split("|") if name.strip()]


def _label(where: str, value: object) -> str:
    label = as_text(where, value).strip()
    if not label:
        raise DataError(f"{where} is empty")
    return label


def blanks_fault(labels: Iterable[str]) -> str | None:
    """Return what is wrong with labels that were given, not read: no row's label has blanks around it."""
    padded = next((label for label in labels if label != label.strip()), None)
    if padded is None:
        return None
    return f"label {quoted(padded)!r} begins or ends with a blank; those around a row's label don't count"


def label_values(fields: Fields) -> tuple[float, ...]:
    """Return the numbers of a row for regression.

    Raises:
        DataError: one is not a finite number.
    """
    given = fields.value("label")
    values = given if isinstance(given, list) else [given]
    return tuple(as_number(f"{fields.where}: label", value) for value in values)


def in_order(labels: Collection[str]) -> tuple[str, ...]:
    """Return whole numbers in numerical order, other labels in alphabetical order."""
    numbers = all(label.isascii() and label.isdigit() for label in labels)
    return tuple(sorted(labels, key=(lambda label: (int(label), label)) if numbers else None))


def spelling_notes(labels: Iterable[str]) -> Iterator[str]:
    """Yield a remark if two labels are one number in two spellings, such as 1 and 1.0: they are learned apart."""
    seen: dict[float, str] = {}
    for label in sorted(labels):
        try:
            number = as_number("", label)
        except DataError:
            continue
        if (other := seen.setdefault(number, label)) != label:
            yield f"the labels {quoted(other)!r} and {quoted(label)!r} are one number, but are learned as two labels"
            return
