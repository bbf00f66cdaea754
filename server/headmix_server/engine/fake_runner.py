"""A runner without a model: its tokens are a pure function of adapter, prompt and position.

It ships with the product so that engine, API and clients can be tested end to end without weights: different adapters
never produce the same output, the same request always produces the same output, and wrong routing shows immediately.
It follows the same contract as the real runner, including stale leases, and uses no tensors.
"""

import hashlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from math import hypot, inf
from pathlib import Path
from typing import assert_never

from headmix_adapters.artifact import ArtifactError, open_artifact
from headmix_server.core.combination import Combination
from headmix_server.core.runner import (
    NOTHING_LEFT,
    AdapterLoadError,
    Batch,
    BatchRow,
    HostAdapter,
    Lease,
    Pooled,
    RowFailed,
    RowResult,
    Sampled,
    Scored,
    masks_of,
    require_base,
    verify_drafts,
)
from headmix_server.core.sampling import biases_at
from headmix_server.core.types import AdapterRef, ClassificationParams, EmbeddingParams, SamplingParams, TokenLogprob

FAKE_LOGPROB = -0.5
FAKE_WIDTH = 8
"""Length of a fake embedding."""


@dataclass(frozen=True, slots=True)
class FakeAdapter:
    """An adapter without tensors: its digest, its head's number of labels (0 for generation), and its size in bytes."""

    digest: str
    num_labels: int = 0
    size: int = 0

    @property
    def host_bytes(self) -> int:
        """See `HostAdapter`."""
        return self.size

    @property
    def device_bytes(self) -> int:
        """See `HostAdapter`."""
        return self.size


def open_fake_adapter(ref: AdapterRef) -> FakeAdapter:
    """Read only the header of an artifact.

    Raises:
        AdapterLoadError: the file is missing or not an artifact.
    """
    try:
        artifact = open_artifact(Path(ref.path))
    except FileNotFoundError as error:
        raise AdapterLoadError("its file is missing", missing=True) from error
    except ArtifactError as error:
        raise AdapterLoadError(str(error)) from error
    classifier = artifact.config.classifier
    return FakeAdapter(ref.digest, 0 if classifier is None else len(classifier.labels), artifact.size_bytes)


def fake_token(adapters: Combination, history: tuple[int, ...], allowed: Sequence[int]) -> int:
    """Return which of the allowed tokens follows `history` under a combination of adapters (None: the base)."""
    text = f"{adapters}|{','.join(map(str, history))}"
    return allowed[int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) % len(allowed)]


def allowed_tokens(mask: bytes) -> list[int]:
    """Return the tokens whose bits are set in a matcher's mask."""
    return [8 * place + bit for place, byte in enumerate(mask) if byte for bit in range(8) if byte >> bit & 1]


def fake_probs(adapters: Combination, prompt: tuple[int, ...], num_labels: int) -> tuple[float, ...]:
    """Return the label probabilities of a text under a combination of adapters."""
    weights = [fake_token(adapters, (*prompt, label), range(1, 1000)) for label in range(num_labels)]
    return tuple(weight / sum(weights) for weight in weights)


def fake_vector(adapters: Combination, prompt: tuple[int, ...], params: EmbeddingParams) -> tuple[float, ...]:
    """Return the embedding of a text under a combination of adapters (None: the base)."""
    name = f"{adapters}|{params.pooling}"
    values = [fake_token(name, (*prompt, place), range(-999, 1000)) for place in range(FAKE_WIDTH)]
    length = hypot(*values) if params.normalize else 1.0
    return tuple(value / (length or 1.0) for value in values)


class FakeRunner:
    """Computes results by hashing. `hold` is called before every step: a test may block in it or inspect the batch.

    `base` is the fingerprint of the base it stands for; None accepts every adapter.
    """

    def __init__(
        self,
        token_range: range = range(1000),
        *,
        base: str | None = None,
        open_adapter: Callable[[AdapterRef], FakeAdapter] = open_fake_adapter,
        hold: Callable[[Batch], None] | None = None,
    ) -> None:
        self._token_range = token_range
        self._base = base
        self._open_adapter = open_adapter
        self._hold = hold
        self._slots: dict[int, tuple[int, FakeAdapter]] = {}

    def load(self, ref: AdapterRef) -> FakeAdapter:
        """See `Runner.load`."""
        if self._base is not None:
            require_base(ref, self._base)
        return self._open_adapter(ref)

    def install(self, slot: int, generation: int, adapter: HostAdapter) -> None:
        """See `Runner.install`."""
        if not isinstance(adapter, FakeAdapter):
            raise AdapterLoadError("this runner takes only its own adapters")
        self._slots[slot] = (generation, adapter)

    def clear(self, slot: int) -> None:
        """See `Runner.clear`."""
        del self._slots[slot]

    def fits(self, adapter: HostAdapter, emptied: Collection[int]) -> bool:
        """See `Runner.fits`: everything fits, because nothing is placed in memory."""
        return True

    @property
    def adapter_number_bytes(self) -> int:
        """See `Runner.adapter_number_bytes`."""
        return 0

    @property
    def adapter_bytes(self) -> int:
        """See `Runner.adapter_bytes`."""
        return sum(adapter.device_bytes for _, adapter in self._slots.values())

    def release(self, sequence_id: int) -> None:
        """See `Runner.release`; there is no state to drop."""

    def run(self, batch: Batch) -> list[RowResult]:
        """See `Runner.run`."""
        if self._hold is not None:
            self._hold(batch)
        return [self._run_row(row) for row in batch.rows]

    def _run_row(self, row: BatchRow) -> RowResult:
        found = [self._adapter(lease) for lease in row.leases]
        if faults := [one for one in found if isinstance(one, RowFailed)]:
            return RowResult(row.sequence_id, faults[0])
        adapters = row.combination
        number, history = row.sequence_id, tuple(row.history)
        match row.params:
            case SamplingParams() as sampling if row.drafts:
                known = [(*history, *row.drafts[:drafts]) for drafts in range(len(row.drafts) + 1)]
                chosen = [
                    self._sample(adapters, row, tokens, sampling, mask)
                    for tokens, mask in zip(known, masks_of(row), strict=True)
                ]
                sound = [choice for choice in chosen if isinstance(choice, Sampled)]
                return verify_drafts(row, sound) if len(sound) == len(chosen) else RowResult(number)
            case SamplingParams() as sampling:
                sampled = self._sample(adapters, row, history, sampling, masks_of(row)[0]) if row.samples else None
                return RowResult(number, sampled, self._prompt_logprobs(row, sampling))
            case ClassificationParams():
                num_labels = next((one.num_labels for one in found if isinstance(one, FakeAdapter)), 0)
                return RowResult(number, Scored(fake_probs(adapters, history, num_labels)) if row.samples else None)
            case EmbeddingParams() as params:
                return RowResult(number, Pooled(fake_vector(adapters, history, params)) if row.samples else None)
            case _:
                assert_never(row.params)

    def _sample(
        self,
        adapters: Combination,
        row: BatchRow,
        history: tuple[int, ...],
        sampling: SamplingParams,
        mask: bytes | RowFailed | None,
    ) -> Sampled | RowFailed:
        if isinstance(mask, RowFailed):
            return mask
        allowed: Sequence[int] = self._token_range if mask is None else allowed_tokens(mask)
        biases = biases_at(sampling, history, row.prompt_length, ())
        if biases:
            allowed = [token for token in allowed if biases.get(token, 0.0) > -inf]
        if not allowed:
            return NOTHING_LEFT
        token = fake_token(adapters, history, allowed)
        return Sampled(token, self._logprob(token, sampling) if sampling.logprobs is not None else None)

    def _adapter(self, lease: Lease) -> FakeAdapter | RowFailed:
        generation, adapter = self._slots.get(lease.slot, (-1, None))
        if adapter is None or (generation, adapter.digest) != (lease.generation, lease.digest):
            return RowFailed(f"slot {lease.slot} no longer holds the adapter this request began with")
        return adapter

    def _logprob(self, token: int, sampling: SamplingParams) -> TokenLogprob:
        others = [t for t in self._token_range if t != token][: max(0, (sampling.logprobs or 0) - 1)]
        top = ((token, FAKE_LOGPROB), *((t, FAKE_LOGPROB - 1 - i) for i, t in enumerate(others)))
        return TokenLogprob(token=token, logprob=FAKE_LOGPROB, top=top[: sampling.logprobs or 0])

    def _prompt_logprobs(self, row: BatchRow, sampling: SamplingParams) -> tuple[TokenLogprob, ...]:
        if not sampling.prompt_logprobs:
            return ()
        scored = row.history[row.start + 1 : min(row.end + 1, row.prompt_length)]
        return tuple(self._logprob(token, sampling) for token in scored)
