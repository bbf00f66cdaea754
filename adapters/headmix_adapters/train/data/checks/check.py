"""A data file checked whole, before anything is trained: in bounded memory and time, whatever the file holds.

Loads neither torch nor transformers. A base's own chat template is trusted; rendering with a stranger's may take any
time and memory, so that is done where a process can be ended.
"""

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from headmix_adapters.config import Problem, Task
from headmix_adapters.text.base_text import BaseText
from headmix_adapters.train.data.checks.classification import ClassificationCheck
from headmix_adapters.train.data.checks.generation import GenerationCheck
from headmix_adapters.train.data.checks.limits import FileLimits
from headmix_adapters.train.data.checks.report import FaultLog, FileReport
from headmix_adapters.train.data.checks.row_check import RowCheck
from headmix_adapters.train.data.conversation import Learn
from headmix_adapters.train.data.fields import left_out
from headmix_adapters.train.data.formats.entry import Entry, UnreadableError
from headmix_adapters.train.data.forms.openai_form import in_openai_form
from headmix_adapters.train.data.forms.task import problem_of, task_of
from headmix_adapters.train.data.rows import FileFormat, Row, read_entries
from headmix_adapters.train.errors import DataError

_PLACE = "line"
_ROWS_A_LOOK = 16
"""Looking at the clock takes longer than reading a short row."""


@dataclass(frozen=True, slots=True)
class Purpose:
    """What a file is to be trained on for; `task` and `problem` are told from the first row if not given.

    `labels` are those that may occur; empty: any. `base` renders conversations and counts tokens.
    """

    task: Task | None = None
    problem: Problem | None = None
    labels: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    learn: Learn = "last"
    base: BaseText | None = None


def check_file(
    path: Path,
    purpose: Purpose | None = None,
    *,
    kind: FileFormat | None = None,
    limits: FileLimits | None = None,
) -> FileReport:
    """Return every fault of a data file, with its line, and what the file has.

    `kind` is the format if the file's name does not end in it. Never raises for what a file holds, or for none.
    """
    check = _FileCheck(purpose or Purpose(), limits or FileLimits())
    try:
        check.read(read_entries(path, kind, check.limits.row_chars))
    except UnreadableError as error:
        check.log.add(None, str(error))
    return check.report()


class _FileCheck:
    def __init__(self, purpose: Purpose, limits: FileLimits) -> None:
        self.limits = limits
        self.log = FaultLog(limits.faults)
        self._purpose = purpose
        self._rows = 0
        self._ignored = Counter[str]()
        self._check: RowCheck | None = None
        self._complete = False

    def read(self, entries: Iterator[Entry]) -> None:
        """Check the rows until the file or a limit is reached."""
        end = time.thread_time() + self.limits.seconds
        for entry in entries:
            if self._rows == self.limits.rows:
                self.log.add(entry.line, f"more than {self.limits.rows:,} rows")
                return
            if self._rows % _ROWS_A_LOOK == 0 and time.thread_time() > end:
                self.log.add(entry.line, f"reading up to here took {self.limits.seconds:g} s; the file is too large")
                return
            self._rows += 1
            self._read(entry)
            if self.log.full:
                return
        self._complete = True

    def _read(self, entry: Entry) -> None:
        if entry.fields is None:
            self.log.add(entry.line, entry.fault)
            return
        self._ignored.update(set(left_out(entry.fields, self._purpose.ignore)))
        place = f"{_PLACE}:{entry.line}"
        try:
            row = in_openai_form(Row(place, entry.fields), self._purpose.ignore)
            if self._check is None:
                self._check = self._row_check(row)
            self._check.check(row)
        except DataError as error:
            self.log.add(entry.line, str(error).removeprefix(place).removeprefix(": "))

    def _row_check(self, first: Row) -> RowCheck:
        purpose, limits = self._purpose, self.limits
        if (purpose.task or task_of(first)) == "generation":
            if purpose.labels or purpose.problem is not None:
                given = "labels are" if purpose.labels else "a problem is"
                raise DataError(f"{given} given, but the task is generation; ask for classification")
            return GenerationCheck(purpose.base, purpose.ignore, purpose.learn, limits.row_text)
        problem = purpose.problem or problem_of(first)
        return ClassificationCheck(purpose.base, problem, purpose.labels, purpose.ignore, limits.labels)

    def report(self) -> FileReport:
        """Return what has been found and counted."""
        check = self._check
        if not self._rows and not self.log:
            self.log.add(None, "no rows")
        if check is not None and self._complete and not self.log:
            for fault in check.faults():
                self.log.add(None, fault)
        return FileReport(
            rows=self._rows,
            examples=0 if check is None else check.examples,
            excluded=0 if check is None else check.excluded,
            tokens=0 if check is None else check.estimate.tokens,
            labels={} if check is None else dict(check.labels),
            ignored=dict(self._ignored),
            same_question=check is not None and self._complete and not check.questions.differ,
            notes=() if check is None else tuple(check.notes()),
            faults=self.log.faults(),
            complete=self._complete,
        )
