"""How much of a data file is read before it is refused, so that no file takes more than bounded memory and time."""

from dataclasses import dataclass

from headmix_adapters.train.data.formats.entry import MAX_ROW_CHARS


@dataclass(frozen=True, slots=True)
class FileLimits:
    """`row_chars`: of one row, about 20 bytes of memory each. `row_text`: of a row's answers, each with all before it.

    `seconds` are of processor time. `faults` are different ones; the check ends with the last.
    """

    rows: int = 1_000_000
    row_chars: int = MAX_ROW_CHARS
    row_text: int = 2**24
    labels: int = 1_000
    faults: int = 100
    seconds: float = 300.0
