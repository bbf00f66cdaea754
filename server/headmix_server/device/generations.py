"""The results of a step for generations: next tokens, and log-probabilities of tokens and prompts.

All rows are sampled and scored together, whatever each of them requests.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from msgspec import structs
from torch import Tensor

from headmix_server.core.runner import (
    NOT_FINITE,
    BatchRow,
    RowFailed,
    RowResult,
    Sampled,
    failed_row,
    verify_drafts,
)
from headmix_server.core.types import SamplingParams
from headmix_server.device.adapters.added_tokens import stack_added_scores
from headmix_server.device.exchange import Readback
from headmix_server.device.placed import Placed, take_rows
from headmix_server.device.sampler import PendingScores, PendingTokens, Sampler
from headmix_server.models.model import Model

SCORED_AT_ONCE = 256
"""Prompt tokens whose scores, one per token of the vocabulary, are in memory at the same time."""

Generating = tuple[Placed, SamplingParams]


class Generations:
    """Computes the results of generations in one model's steps; `sampler` chooses and scores tokens."""

    def __init__(self, model: Model, sampler: Sampler) -> None:
        self._model = model
        self._sampler = sampler

    def ask(self, rows: Sequence[Generating], hidden: Tensor, back: Readback) -> "PendingGenerations":
        """Compute the results of rows from the final hidden states [tokens, D]."""
        due = [entry for entry in rows if entry[0].row.samples]
        spans = {item.row.sequence_id: _targets(item, params) for item, params in rows}
        return PendingGenerations(
            numbers=[item.row.sequence_id for item, _ in rows],
            due=[item.row for item, _ in due],
            tokens=self._choose(due, hidden, back) if due else None,
            scored={number: len(targets) for number, targets in spans.items()},
            scores=self._score([(item, spans[item.row.sequence_id]) for item, _ in rows], hidden, back),
        )

    def _choose(self, due: Sequence[Generating], hidden: Tensor, back: Readback) -> PendingTokens:
        places = [(place, item.occupant) for item, _ in due for place in item.due]
        last = take_rows(hidden, [place for place, _ in places])
        added = stack_added_scores(last, [occupant for _, occupant in places], tied_head=self._model.tied_head)
        logits = self._model.logits(last)
        return self._sampler.choose(logits, [(item.row, params) for item, params in due], added, back)

    def _score(
        self, rows: Sequence[tuple[Placed, Sequence[tuple[int, int]]]], hidden: Tensor, back: Readback
    ) -> list[PendingScores]:
        """Score prompt tokens, using the states of the positions before them, a limited number at a time."""
        targets = [(item.first + at, item, target) for item, own in rows for at, target in enumerate(own)]
        pending = []
        for start in range(0, len(targets), SCORED_AT_ONCE):
            part = targets[start : start + SCORED_AT_ONCE]
            states = take_rows(hidden, [place for place, _, _ in part])
            added = stack_added_scores(states, [item.occupant for _, item, _ in part], tied_head=self._model.tied_head)
            logits = self._model.logits(states)
            pending.append(self._sampler.score(logits, [target for _, _, target in part], added, back))
        return pending


@dataclass(frozen=True, slots=True)
class PendingGenerations:
    """The generations of a step, to be read once its numbers are fetched.

    `numbers` are the sequence ids, `due` the rows that get a token; `scored` counts each sequence's scored tokens.
    """

    numbers: Sequence[int]
    due: Sequence[BatchRow]
    tokens: PendingTokens | None
    scored: dict[int, int]
    scores: Sequence[PendingScores]

    def results(self) -> dict[int, RowResult]:
        """Return every row's result, by sequence id."""
        choices = iter(() if self.tokens is None else self.tokens.read())
        generated = {row.sequence_id: _generated(row, list(islice(choices, len(row.drafts) + 1))) for row in self.due}
        entries = iter([entry for part in self.scores for entry in part.read()])
        results = {}
        for number in self.numbers:
            result = generated.get(number) or RowResult(number)
            prompt = tuple(islice(entries, self.scored[number]))
            sound = [entry for entry in prompt if entry is not None]
            if len(sound) < len(prompt):
                result = RowResult(number, NOT_FINITE)
            elif sound and not isinstance(result.result, RowFailed):
                result = structs.replace(result, prompt_logprobs=tuple(sound))
            results[number] = result
        return results


def _generated(row: BatchRow, choices: Sequence[Sampled | RowFailed]) -> RowResult:
    """Return the result of a row from the tokens chosen after its history and after each draft."""
    sound = [choice for choice in choices if isinstance(choice, Sampled)]
    if len(sound) == len(choices):
        return verify_drafts(row, sound)
    failed = next(choice for choice in choices if isinstance(choice, RowFailed))
    return failed_row(row, failed)


def _targets(item: Placed, params: SamplingParams) -> list[tuple[int, int]]:
    """Return the scored prompt tokens that this chunk's positions predict, each with its number of alternatives."""
    row = item.row
    if not params.prompt_logprobs:
        return []
    return [(token, params.logprobs or 0) for token in row.history[row.start + 1 : min(row.end + 1, row.prompt_length)]]
