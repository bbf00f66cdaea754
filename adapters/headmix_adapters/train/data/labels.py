"""The text and labels of a classification row, in the form the classifier's problem requires."""

from collections.abc import Callable, Collection
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
        self._field = "labels" if classifier.problem == "multi_label" else "label"
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
        fields = Fields(row.place, row.fields, LEARNT | {"text", self._field}, self._ignored)
        return fields.text("text"), self._read(fields), fields.learned() is not False

    def _single(self, fields: Fields) -> int:
        return self._number_of(fields, fields.text("label"))

    def _multi(self, fields: Fields) -> tuple[float, ...]:
        given = fields.value("labels")
        where = f"{fields.where}: labels"
        if isinstance(given, list):
            names = [as_text(f"{where}[{number}]", name) for number, name in enumerate(given)]
        else:
            names = [name for name in as_text(where, given).split("|") if name]
        chosen = {self._number_of(fields, name) for name in names}
        return tuple(float(number in chosen) for number in range(len(self._numbers)))

    def _regression(self, fields: Fields) -> tuple[float, ...]:
        given = fields.value("label")
        values = given if isinstance(given, list) else [given]
        if len(values) != len(self._numbers):
            raise DataError(f"{fields.where}: {len(values)} values for {len(self._numbers)} labels")
        return tuple(as_number(f"{fields.where}: label", value) for value in values)

    def _number_of(self, fields: Fields, label: str) -> int:
        if label not in self._numbers:
            known = ", ".join(map(quoted, islice(self._numbers, _NAMED_LABELS)))
            more = ", ..." if len(self._numbers) > _NAMED_LABELS else ""
            raise DataError(f"{fields.where}: label {quoted(label)!r} is not among classifier.labels ({known}{more})")
        return self._numbers[label]
