"""The check of texts with labels, or of chats whose answers are labels."""

from collections import Counter
from collections.abc import Collection, Iterator

from headmix_adapters.artifact.checks.rules import label_fault
from headmix_adapters.artifact.faults import quoted
from headmix_adapters.artifact.limits import Limits
from headmix_adapters.config import Problem
from headmix_adapters.text.base_text import BaseText
from headmix_adapters.train.data.checks.estimate import TokenEstimate
from headmix_adapters.train.data.checks.row_check import ALL_EXCLUDED, Questions
from headmix_adapters.train.data.forms.label_chats import LabelChats
from headmix_adapters.train.data.labels import label_fields, label_names, label_values, spelling_notes
from headmix_adapters.train.data.rows import Row
from headmix_adapters.train.errors import DataError

_SHORT = 16
_MOST_CHARS = Limits().max_words_chars


class ClassificationCheck:
    """See `RowCheck`; without `labels` any may occur, up to `most_labels` different ones."""

    def __init__(
        self,
        base: BaseText | None,
        problem: Problem,
        labels: Collection[str],
        ignored: Collection[str],
        most_labels: int,
    ) -> None:
        self.examples = self.excluded = 0
        self.labels = Counter[str]()
        self.estimate, self.questions = TokenEstimate(base), Questions()
        self._base, self._problem, self._known, self._ignored = base, problem, frozenset(labels), ignored
        self._most, self._chars = most_labels, 0
        self._chats = LabelChats(problem, ignored)

    def check(self, row: Row) -> None:
        """See `RowCheck`."""
        row = self._chats.read(row)
        self.questions.add(row)
        fields = label_fields(row, self._problem, self._ignored)
        text = fields.text("text")
        if self._problem == "regression":
            label_values(fields)
        names = [] if self._problem == "regression" else label_names(fields, self._problem)
        self._check_names(row.place, names)
        if self._base is not None and len(text) < _SHORT and not self._base.tokenizer.encode(text):
            raise DataError(f"{row.place}: the text has no tokens")
        if fields.learned() is False:
            self.excluded += 1
            return
        self.examples += 1
        self._chars += sum(map(len, set(names) - self.labels.keys()))
        self.labels.update(set(names))
        self.estimate.add(text)

    def _check_names(self, where: str, names: Collection[str]) -> None:
        new = set(names) - self.labels.keys()
        for name in names:
            if self._known and name not in self._known:
                raise DataError(f"{where}: label {quoted(name)!r} is not one of the {len(self._known)} given")
            if name in new and (fault := label_fault(name)):
                raise DataError(f"{where}: label {quoted(name)!r} {fault}")
        if len(self.labels) + len(new) > self._most:
            raise DataError(f"{where}: more than {self._most:,} different labels")
        if new and self._chars + sum(map(len, new)) > _MOST_CHARS:
            raise DataError(f"{where}: all labels together are longer than {_MOST_CHARS:,} characters")

    def faults(self) -> Iterator[str]:
        """See `RowCheck`."""
        if not self.examples:
            yield ALL_EXCLUDED
        elif self._problem == "single_label" and len(self._known or self.labels) == 1:
            yield f"all rows have the label {quoted(next(iter(self.labels)))!r}: two are needed"

    def notes(self) -> Iterator[str]:
        """See `RowCheck`."""
        yield from self._chats.notes()
        yield from spelling_notes(self.labels)
