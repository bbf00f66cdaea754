"""The boundary between control and data: what the engine asks a runner to compute, and the results.

Owns the batch and result types, the `Runner` protocol and the check of a runner's results. Everything here is plain
Python; a runner may hold tensors, but the engine never sees one.
"""

from collections.abc import Collection
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import Protocol, assert_never

import msgspec

from headmix_server.core.combination import Combination, combination_of
from headmix_server.core.errors import InternalError, InvalidRequest, ModelNotFound, NumericalError
from headmix_server.core.grammar import GrammarError, Matcher
from headmix_server.core.types import (
    AdapterRef,
    ClassificationParams,
    EmbeddingParams,
    SamplingParams,
    TaskParams,
    TokenLogprob,
)


@dataclass(frozen=True, slots=True)
class Lease:
    """A sequence's hold on a slot. `generation` distinguishes uses of the slot, `serial` holds on it."""

    slot: int
    generation: int
    serial: int
    digest: str


@dataclass(frozen=True, slots=True)
class ScaledLease:
    """A hold on a slot whose adapter's terms are multiplied by `scale`."""

    lease: Lease
    scale: float


class BatchRow(msgspec.Struct, frozen=True, gc=False):
    """One sequence's share of a step: the tokens to compute, from position `start`, and the location of its cache.

    `lease` None means the base alone. `samples` is true if these tokens reach the last known token of the sequence, so
    that the step yields a result for it, of the kind that `params` determines. `history` is every token of the sequence
    so far (prompt and output; shared, must not be changed), split at `prompt_length`. `blocks`, also shared, may
    contain more than these tokens need. `matcher` determines which tokens may come next; None allows all.

    `drafts`, on rows that generate, are guesses of the tokens after the history. They are the last of the `count`
    tokens to compute; a token is chosen after the history and after each of them.

    `scale` multiplies the terms of the lease's adapter; those of the leases `beside` it are added to them.

    This and the results are structs since hundreds are created per step: a frozen dataclass takes seven times as long.
    """

    sequence_id: int
    start: int
    count: int
    history: Seq[int]
    prompt_length: int
    blocks: Seq[int]
    lease: Lease | None
    samples: bool
    params: TaskParams
    drafts: Seq[int] = ()
    matcher: Matcher | None = None
    scale: float = 1.0
    beside: Seq[ScaledLease] = ()

    @property
    def leases(self) -> tuple[Lease, ...]:
        """All its leases, the first one first."""
        return () if self.lease is None else (self.lease, *(one.lease for one in self.beside))

    @property
    def combination(self) -> Combination:
        """What it computes with."""
        if self.lease is None:
            return None
        first = (self.lease.digest, self.scale)
        return combination_of([first, *((one.lease.digest, one.scale) for one in self.beside)])

    @property
    def tokens(self) -> Seq[int]:
        """The token ids to compute, `count` of them."""
        known = self.history[self.start : self.start + self.count]
        return [*known, *self.drafts] if self.drafts else known

    @property
    def known_end(self) -> int:
        """The position after the last token of this row that is no draft."""
        return self.start + self.count - len(self.drafts)

    @property
    def end(self) -> int:
        """The position after the last token of this row."""
        return self.start + self.count


@dataclass(frozen=True, slots=True)
class Batch:
    """One ragged step."""

    rows: tuple[BatchRow, ...]

    @property
    def num_tokens(self) -> int:
        """The number of tokens the step computes."""
        return sum(row.count for row in self.rows)

    @property
    def distinct_adapters(self) -> int:
        """The number of distinct adapters in the step, not counting the base."""
        return len({lease.digest for row in self.rows for lease in row.leases})


class Sampled(msgspec.Struct, frozen=True, gc=False):
    """The next token of a generation, with its log-probability if requested."""

    token: int
    logprob: TokenLogprob | None = None


@dataclass(frozen=True, slots=True)
class Scored:
    """A classification's result: one number per label."""

    probs: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Pooled:
    """An embedding's result."""

    vector: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class RowFailed:
    """Only this row could not be computed; `code` is one of `core.errors`, the message is for the client."""

    message: str
    code: str = InternalError.code


NOT_FINITE = RowFailed("the result is not finite (NaN or infinity)", NumericalError.code)
"""The row's numbers overflowed; the engine adds which adapter's they are."""

NOTHING_LEFT = RowFailed("the request's bans leave none of the tokens that may come next", InvalidRequest.code)


class RowResult(msgspec.Struct, frozen=True, gc=False):
    """A step's result for one row. `result` is None for a chunk that does not reach the end of its sequence.

    `prompt_logprobs`, if requested, covers the prompt tokens predicted by this chunk's positions. `further` are the
    tokens after the first of a row with drafts, one for each draft that was right. If such a row's result is None, a
    number was not finite, perhaps only after a wrong draft: nothing of it counts, and the row must be computed again
    without drafts.
    """

    sequence_id: int
    result: Sampled | Scored | Pooled | RowFailed | None = None
    prompt_logprobs: tuple[TokenLogprob, ...] = ()
    further: tuple[Sampled, ...] = ()

    @property
    def tokens(self) -> tuple[Sampled, ...]:
        """All tokens of a generation's row, in order."""
        return (self.result, *self.further) if isinstance(self.result, Sampled) else ()


def failed_row(row: BatchRow, failure: RowFailed) -> RowResult:
    """Return the result of a row without a token; one with drafts is computed again without them."""
    return RowResult(row.sequence_id, None if row.drafts else failure)


def verify_drafts(row: BatchRow, chosen: Seq[Sampled]) -> RowResult:
    """Return a row's result: of what was `chosen` behind its history and behind each draft, what the drafts allow.

    A choice depends on seed, position and scores alone. Where the token chosen is the draft, the scores behind the
    draft are those of the sequence itself, so the next choice is the one it would have got one token at a time.
    """
    right = 0
    while right < len(row.drafts) and chosen[right].token == row.drafts[right]:
        right += 1
    return RowResult(row.sequence_id, chosen[0], further=tuple(chosen[1 : right + 1]))


def masks_of(row: BatchRow) -> Seq[bytes | RowFailed | None]:
    """Return which tokens the row's grammar allows after its history and after each draft, a bit for each token.

    None if the row has no grammar. Behind a draft that the grammar does not allow, no choice counts, so any mask does.
    """
    places = 1 + len(row.drafts)
    if row.matcher is None:
        return [None] * places
    try:
        masks = row.matcher.allowed_after(row.drafts) if row.drafts else [row.matcher.allowed()]
    except GrammarError as error:
        return [RowFailed(f"the grammar cannot be enforced any further: {error}", InvalidRequest.code)] * places
    return [*masks, *masks[-1:] * (places - len(masks))]


class HostAdapter(Protocol):
    """An adapter's tensors in host memory, opaque to the engine."""

    @property
    def digest(self) -> str:
        """The artifact's identity."""
        ...

    @property
    def host_bytes(self) -> int:
        """The host memory it takes."""
        ...

    @property
    def device_bytes(self) -> int:
        """The device memory for adapters that it takes once installed."""
        ...


class AdapterLoadError(Exception):
    """An artifact could not be loaded into host memory or onto the device.

    `code` is the error that its requests get; `missing` is true if its bytes are gone.
    """

    def __init__(self, message: str, *, missing: bool = False, code: str = InternalError.code) -> None:
        super().__init__(message)
        self.missing = missing
        self.code = ModelNotFound.code if missing else code


def require_base(ref: AdapterRef, fingerprint: str) -> None:
    """Refuse an adapter that was accepted for a base other than the runner's, which has this fingerprint.

    Raises:
        AdapterLoadError: it was accepted for another base.
    """
    if ref.base != fingerprint:
        raise AdapterLoadError(f"it was accepted for the base {ref.base}, but this engine has {fingerprint}")


class Runner(Protocol):
    """The component that computes. `load` may be called from loader threads at any time.

    `run` is called from one thread, the same for the engine's life; everything else is called from the engine's own
    thread, and only while no `run` is in progress. So only `load` has to be thread-safe.
    """

    def load(self, ref: AdapterRef) -> HostAdapter:
        """Read an artifact into host memory and check that it is the named one, accepted for this runner's base.

        Raises:
            AdapterLoadError: it cannot be read, its bytes do not match the digest, or it was accepted for another base.
        """
        ...

    def install(self, slot: int, generation: int, adapter: HostAdapter) -> None:
        """Put an adapter into a slot; from now on, rows whose lease names this slot and generation use it.

        The slot must be empty: new, or cleared. If this raises, it is empty again.

        Raises:
            AdapterLoadError: the device cannot hold it.
        """
        ...

    def clear(self, slot: int) -> None:
        """Empty a slot."""
        ...

    def fits(self, adapter: HostAdapter, emptied: Collection[int]) -> bool:
        """Return whether the adapter could be installed once these slots are empty, considering its place in memory.

        The engine ensures that the bytes of all installed adapters stay within the device's budget.
        """
        ...

    @property
    def adapter_number_bytes(self) -> int:
        """The width of adapters' numbers on the device in bytes; 0 if they are kept as stored, narrow ones narrow."""
        ...

    @property
    def adapter_bytes(self) -> int:
        """The device memory that adapters take now, including places that were freed but not yet returned."""
        ...

    def run(self, batch: Batch) -> list[RowResult]:
        """Compute one step; return one result per row, in the rows' order.

        Raises:
            Exception: on any error, the engine fails every row of the batch and continues.
        """
        ...

    def release(self, sequence_id: int) -> None:
        """Drop what is kept for a sequence between steps; a sequence that never ran is no error.

        Called once when a running sequence ends, or is preempted and will start over.
        """
        ...


def check_results(batch: Batch, outcome: Seq[RowResult] | BaseException) -> Seq[RowResult]:
    """Return a step's results: one per row, in order, and of the right kind if a result is due.

    Raises:
        RuntimeError: the runner broke its contract.
        BaseException: what the runner raised.
    """
    if isinstance(outcome, BaseException):
        raise outcome
    results = outcome
    if [row.sequence_id for row in batch.rows] != [result.sequence_id for result in results]:
        raise RuntimeError("the runner's results are not those of the batch's rows")
    for row, result in zip(batch.rows, results, strict=True):
        if not isinstance(result.result, (RowFailed, *_due(row))):
            raise RuntimeError(f"the runner answered a row with {type(result.result).__name__}")  # noqa: TRY004 - no argument's type
        if result.further and not _follows(row, result):
            raise RuntimeError("the runner went on behind a draft that was wrong")
    return results


def _follows(row: BatchRow, result: RowResult) -> bool:
    """Return whether every token but the last is the draft at its place."""
    if not isinstance(result.result, Sampled):
        return False
    before = [sampled.token for sampled in (result.result, *result.further[:-1])]
    return before == list(row.drafts[: len(before)])


def _due(row: BatchRow) -> tuple[type, ...]:
    """Return what a row may be answered with unless it fails."""
    if not row.samples:
        return (type(None),)
    match row.params:
        case SamplingParams():
            return (Sampled, type(None)) if row.drafts else (Sampled,)
        case ClassificationParams():
            return (Scored,)
        case EmbeddingParams():
            return (Pooled,)
        case _:
            assert_never(row.params)
