"""What is wrong with an artifact, in words a person can act on.

Owns the fault, the error that carries all faults, and the collector that bounds both. Knows no rule of the format.
"""

from collections.abc import Iterable
from dataclasses import dataclass

MAX_FAULTS = 100
MAX_QUOTED = 120


def quoted(text: str) -> str:
    """Make text from an untrusted file safe for a log line: printable ASCII or letters, at most 120 characters."""
    short = text if len(text) <= MAX_QUOTED else text[:MAX_QUOTED] + "..."
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in short)


@dataclass(frozen=True, slots=True)
class ArtifactFault:
    """One fault; `tensor` is the name of the tensor it is about, or None for the file or its config."""

    tensor: str | None
    reason: str

    def __str__(self) -> str:
        return self.reason if self.tensor is None else f"{self.tensor}: {self.reason}"


class ArtifactError(Exception):
    """The file is not an artifact that can be accepted; `faults` lists everything that is wrong with it."""

    def __init__(self, faults: Iterable[ArtifactFault]) -> None:
        self.faults: tuple[ArtifactFault, ...] = tuple(faults)
        super().__init__("; ".join(str(fault) for fault in self.faults))


class FaultList:
    """Collects faults; beyond the first hundred they are only counted, so no file can make the response endless."""

    def __init__(self) -> None:
        self._faults: list[ArtifactFault] = []
        self._uncounted = 0

    def add(self, reason: str, tensor: str | None = None) -> None:
        """Record a fault; names from the file are made printable."""
        if len(self._faults) == MAX_FAULTS:
            self._uncounted += 1
        else:
            self._faults.append(ArtifactFault(None if tensor is None else quoted(tensor), reason))

    def __len__(self) -> int:
        return len(self._faults) + self._uncounted

    def raise_if_any(self) -> None:
        """Raise ArtifactError with all recorded faults, if there are any."""
        if self._faults:
            more = [ArtifactFault(None, f"and {self._uncounted} more faults")] if self._uncounted else []
            raise ArtifactError(self._faults + more)
