"""The check of conversations and completions. With a base, its chat template renders them, and may refuse some."""

from collections import Counter
from collections.abc import Collection, Iterator

from headmix_adapters.text.base_text import BaseText
from headmix_adapters.train.data.answers import check_length, read_generation
from headmix_adapters.train.data.checks.estimate import TokenEstimate
from headmix_adapters.train.data.checks.row_check import ALL_EXCLUDED, Questions
from headmix_adapters.train.data.conversation import Learn
from headmix_adapters.train.data.rows import Row


class GenerationCheck:
    """See `RowCheck`; `longest` is the most characters of a row's answers, each with all that precedes it."""

    def __init__(self, base: BaseText | None, ignored: Collection[str], learn: Learn, longest: int) -> None:
        self.examples = self.excluded = 0
        self.labels = Counter[str]()
        self.estimate, self.questions = TokenEstimate(base), Questions()
        self._base, self._ignored, self._learn, self._longest = base, ignored, learn, longest

    def check(self, row: Row) -> None:
        """See `RowCheck`."""
        self.questions.add(row)
        read = read_generation(row, self._ignored, self._learn)
        lengths = read.lengths()
        check_length(row.place, sum(lengths), self._longest)
        if self._base is None:
            self.estimate.add_chars(sum(lengths))
        else:
            for answer in read.answers(self._base, self._longest):
                answer.check(row.place, self._base)
                self.estimate.add(answer.prompt + answer.answer)
        self.examples += len(lengths)
        self.excluded += not lengths

    def faults(self) -> Iterator[str]:
        """See `RowCheck`."""
        if not self.examples:
            yield ALL_EXCLUDED

    def notes(self) -> Iterator[str]:
        """See `RowCheck`."""
        return iter(())
