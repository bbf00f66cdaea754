"""From scores to the next token, and to log-probabilities: every row of a step in one pass.

A sampled token depends only on the request's seed, the position and the scores, never on the rest of the batch or on
what ran before, so a preempted or re-sent request draws the same tokens. Scores that are not finite yield no token.
The backend does the computation; this module creates its plan and reads its results.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from headmix_server.core.runner import NOT_FINITE, NOTHING_LEFT, BatchRow, RowFailed, Sampled, masks_of
from headmix_server.core.sampling import biases_at, penalises
from headmix_server.core.types import SamplingParams, TokenLogprob
from headmix_server.device.adapters.added_tokens import AddedScores
from headmix_server.device.exchange import Awaited, Readback, send
from headmix_server.device.token_counts import TokenCounts
from headmix_server.kernels.sampling.choice import Choices, SamplingBackend
from headmix_server.kernels.sampling.plan import (
    NO_TOKEN,
    NOTHING_ALLOWED,
    Choosing,
    SamplingPlan,
    Scoring,
    plan_choices,
    plan_scores,
)


class Sampler:
    """Chooses and scores tokens with one backend; `counts` holds the token counts of sequences with penalties.

    `eos_ids` are the tokens that end a text: a minimum length bans them.
    """

    def __init__(
        self, backend: SamplingBackend, counts: TokenCounts | None = None, eos_ids: Collection[int] = ()
    ) -> None:
        self._backend = backend
        self._eos_ids = eos_ids
        self._counts = TokenCounts() if counts is None else counts

    def choose(
        self, logits: Tensor, rows: Sequence[tuple[BatchRow, SamplingParams]], added: AddedScores, back: Readback
    ) -> "PendingTokens":
        """Choose a token for every row by its scores [choices, vocabulary], float32 or bfloat16.

        A row has one choice after its history and one after each of its drafts, in this order. `added` are scores of
        the tokens that a row's own adapter adds: ids from the vocabulary's size up.
        """
        due = [(row, params, drafts) for row, params in rows for drafts in range(len(row.drafts) + 1)]
        masks = [mask for row, _ in rows for mask in masks_of(row)]
        asked = [
            Choosing(
                params,
                row.known_end + drafts,
                more,
                seen=self._counts.seen(row, drafts) if penalises(params) else None,
                mask=b"" if isinstance(mask, RowFailed) else mask,
                biases=tuple(self._biases(row, params, drafts).items()),
            )
            for (row, params, drafts), more, mask in zip(due, added.counts, masks, strict=True)
        ]
        choices = self._run(logits, added, plan_choices(asked))
        faults = [mask if isinstance(mask, RowFailed) else None for mask in masks]
        return PendingTokens(_Pending.of(choices, back), [params.logprobs for _, params, _ in due], faults)

    def score(
        self, logits: Tensor, targets: Sequence[tuple[int, int]], added: AddedScores, back: Readback
    ) -> "PendingScores":
        """Score a given token with each row of scores; `targets` are the tokens, each with a number of alternatives."""
        scoring = [Scoring(token, n, more) for (token, n), more in zip(targets, added.counts, strict=True)]
        choices = self._run(logits, added, plan_scores(scoring))
        return PendingScores(_Pending.of(choices, back), [row.alternatives for row in scoring])

    def _biases(self, row: BatchRow, params: SamplingParams, drafts: int) -> Mapping[int, float]:
        """Return the biases that apply after the row's history and its first `drafts` drafts."""
        history = (*row.history, *row.drafts[:drafts]) if drafts else row.history
        return biases_at(params, history, row.prompt_length, self._eos_ids)

    def _run(self, logits: Tensor, added: AddedScores, plan: SamplingPlan) -> Choices:
        sent = plan.with_tables([send(table, logits.device) for table in plan.tables])
        return self._backend.choose(logits, added.scores, sent)


@dataclass(frozen=True, slots=True)
class _Pending:
    """The numbers of `Choices`, still to be fetched."""

    tokens: Awaited
    logprobs: Awaited
    top_tokens: Awaited
    top_logprobs: Awaited

    @classmethod
    def of(cls, choices: Choices, back: Readback) -> "_Pending":
        parts = (choices.tokens, choices.logprobs, choices.top_tokens, choices.top_logprobs)
        return cls(*(back.ask(part) for part in parts))

    def entries(self, wanted: Sequence[int | None]) -> list[TokenLogprob | None]:
        """Return each row's log-probability entry with the wanted number of alternatives; None if it wants no entry."""
        tokens, logprobs = self.tokens.read().tolist(), self.logprobs.read().tolist()
        top_tokens, top_logprobs = self.top_tokens.read().tolist(), self.top_logprobs.read().tolist()
        return [
            None
            if count is None
            else TokenLogprob(
                token=tokens[at],
                logprob=logprobs[at],
                top=tuple(zip(top_tokens[at][:count], top_logprobs[at][:count], strict=True)),
            )
            for at, count in enumerate(wanted)
        ]


class PendingTokens:
    """The tokens chosen in a step, to be read once they are fetched."""

    def __init__(
        self, pending: _Pending, wanted: Sequence[int | None], faults: Sequence[RowFailed | None] = ()
    ) -> None:
        self._pending = pending
        self._wanted = wanted
        self._faults = faults

    def read(self) -> list[Sampled | RowFailed]:
        """Return every choice, or the reason why there is none."""
        tokens = self._pending.tokens.read().tolist()
        if all(count is None for count in self._wanted):
            results = [_sampled(token, None) for token in tokens]
        else:
            results = list(map(_sampled, tokens, self._pending.entries(self._wanted)))
        return [fault or result for fault, result in zip(self._faults, results, strict=True)]


def _sampled(token: int, logprob: TokenLogprob | None) -> Sampled | RowFailed:
    if token == NOTHING_ALLOWED:
        return NOTHING_LEFT
    if token == NO_TOKEN or not (logprob is None or is_finite(logprob)):
        return NOT_FINITE
    return Sampled(token, logprob)


class PendingScores:
    """The log-probabilities of given tokens, to be read once they are fetched."""

    def __init__(self, pending: _Pending, wanted: Sequence[int]) -> None:
        self._pending = pending
        self._wanted = wanted

    def read(self) -> list[TokenLogprob | None]:
        """Return every row's entry, None if any of its numbers is not finite."""
        tokens = self._pending.tokens.read().tolist()
        entries = self._pending.entries(self._wanted)
        return [
            entry if token != NO_TOKEN and entry is not None and is_finite(entry) else None
            for token, entry in zip(tokens, entries, strict=True)
        ]


def is_finite(logprob: TokenLogprob) -> bool:
    """Return whether all its numbers are finite: JSON has no others."""
    return math.isfinite(logprob.logprob) and all(math.isfinite(number) for _, number in logprob.top)
