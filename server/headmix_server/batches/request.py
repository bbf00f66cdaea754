"""What a job of the kind `batch` says: its request, its progress, and what is counted. Values and their JSON only."""

from collections.abc import Mapping
from typing import Literal, get_args

import msgspec

from headmix_server.batches.input_file import Fault
from headmix_server.core.types import Frozen

KIND: Literal["batch"] = "batch"
End = Literal["completed", "failed", "expired", "cancelled"]
Status = Literal["validating", "in_progress", "finalizing", End]
ENDS: tuple[End, ...] = get_args(End)


class BatchRequest(Frozen, frozen=True):
    """What a client asked for. `expires` is in Unix seconds, `output_seconds` how long its results are kept.

    The job holds the input file's bytes. `key_id` is the key that created it.
    """

    input_file_id: str
    endpoint: str
    completion_window: str
    expires: int
    metadata: dict[str, str] | None = None
    output_seconds: int | None = None
    key_id: str | None = None


class Tokens(Frozen, frozen=True):
    """What the answered lines used."""

    prompt: int = 0
    cached: int = 0
    completion: int = 0

    def plus(self, other: "Tokens") -> "Tokens":
        """Return the sum."""
        return Tokens(
            prompt=self.prompt + other.prompt,
            cached=self.cached + other.cached,
            completion=self.completion + other.completion,
        )


class Counts(Frozen, frozen=True):
    """How many lines were answered, without and with an error, and what they used."""

    completed: int = 0
    failed: int = 0
    tokens: Tokens = Tokens()

    def plus(self, other: "Counts") -> "Counts":
        """Return the sum."""
        return Counts(
            completed=self.completed + other.completed,
            failed=self.failed + other.failed,
            tokens=self.tokens.plus(other.tokens),
        )


class Progress(Frozen, frozen=True, omit_defaults=True):
    """How far a batch is. `models` are what `HeldModels` found its lines' names to mean, each None before.

    `ending` is how it will end, once that is certain. Times are Unix seconds; `reached` has that of each status.
    """

    status: Status = "validating"
    ending: End | None = None
    total: int = 0
    counts: Counts = Counts()
    models: Mapping[str, str | None] = msgspec.field(default_factory=dict)
    faults: list[Fault] = msgspec.field(default_factory=list)
    reached: Mapping[str, int] = msgspec.field(default_factory=dict)
    output_file_id: str | None = None
    error_file_id: str | None = None

    @property
    def unanswered(self) -> int:
        """The number of lines that still need an answer; none do once it is certain how the batch ends."""
        return 0 if self.ending is not None else self.total - self.counts.completed - self.counts.failed


_REQUEST = msgspec.json.Decoder(BatchRequest)
_PROGRESS = msgspec.json.Decoder(Progress)
_COUNTS = msgspec.json.Decoder(Counts)


def read_request(text: str) -> BatchRequest:
    """Return the request in a job's row."""
    return _REQUEST.decode(text)


def read_progress(text: str) -> Progress:
    """Return the progress in a job's row."""
    return _PROGRESS.decode(text)


def read_counts(text: str) -> Counts:
    """Return the counts in a checkpoint's row."""
    return _COUNTS.decode(text)


def written(value: BatchRequest | Progress | Counts) -> str:
    """Return a value's JSON."""
    return msgspec.json.encode(value).decode()
