"""From scores to the next token: greedy, or sampled with temperature, top-k, top-p, min-p and penalties.

A sampled token depends on the request's seed and the position only, never on the batch it runs in or on what ran
before, so a preempted or re-sent request draws the same numbers. Scores that are not finite yield no token.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import torch
from torch import Tensor

from headmix_server.core.runner import BatchRow, Sampled
from headmix_server.core.types import UNSCORED, SamplingParams, TokenLogprob

_NOTHING_ADDED: Mapping[int, Tensor] = MappingProxyType({})
_SEED_STEP = 0x9E3779B97F4A7C15  # odd, so that (seed, position) pairs spread over all 64 bits
_SEED_MASK = 2**63 - 1


NO_TOKEN = -1
"""What stands for a token where the scores are not finite."""


def most_probable(scores: Tensor) -> Tensor:
    """Return the tokens with the highest scores [..., vocab]: [...], `NO_TOKEN` where that score is not finite.

    Nothing is read back: NaN counts as the highest score, so this one look tells of it.
    """
    best = scores.max(dim=-1)
    return torch.where(best.values.isfinite(), best.indices, NO_TOKEN)


def sample(
    logits: Tensor,
    rows: Sequence[tuple[BatchRow, SamplingParams]],
    added: Mapping[int, Tensor] = _NOTHING_ADDED,
    greedy: Sequence[int] | None = None,
) -> list[Sampled | None]:
    """Choose a token for every row, None where its scores are not finite: logits [rows, vocab], float32, unchanged.

    `added` are further scores [n] of the row at an index, of the tokens its own adapter adds: ids from vocab up.
    `greedy` are the rows' `most_probable` tokens, if they have been read already.
    """
    tokens: list[int] = most_probable(logits).tolist() if greedy is None else list(greedy)
    wider = {index: torch.cat([logits[index], scores]) for index, scores in added.items()}
    for index, (row, params) in enumerate(rows):
        if tokens[index] == NO_TOKEN:
            continue
        if index in wider:
            tokens[index] = _choose(wider[index], row, params)
        elif not _is_plain_greedy(params):
            tokens[index] = _choose(logits[index], row, params)
    asked = [i for i, (_, params) in enumerate(rows) if params.logprobs is not None and tokens[i] != NO_TOKEN]
    described = _log_softmax(logits, [index for index in asked if index not in wider])
    described |= {index: wider[index].log_softmax(dim=-1) for index in asked if index in wider}
    logprobs = {
        index: describe(scores, tokens[index], rows[index][1].logprobs or 0) for index, scores in described.items()
    }
    return [_sampled(token, logprobs.get(index)) for index, token in enumerate(tokens)]


def _sampled(token: int, logprob: TokenLogprob | None) -> Sampled | None:
    return None if token == NO_TOKEN or not (logprob is None or is_finite(logprob)) else Sampled(token, logprob)


def is_finite(logprob: TokenLogprob) -> bool:
    """Tell whether all its numbers are finite: JSON has no others."""
    return math.isfinite(logprob.logprob) and all(math.isfinite(number) for _, number in logprob.top)


def describe(scores: Tensor, token: int, alternatives: int) -> TokenLogprob:
    """Return a token's log-probability and those of the most probable alternatives from log-probabilities [vocab].

    A token beyond them was added to a base whose head is not tied: it is read and never said.
    """
    top: tuple[tuple[int, float], ...] = ()
    if alternatives:
        values, ids = scores.topk(alternatives)
        top = tuple(zip(ids.tolist(), values.tolist(), strict=True))
    logprob = float(scores[token]) if token < scores.numel() else UNSCORED
    return TokenLogprob(token=token, logprob=logprob, top=top)


def _log_softmax(logits: Tensor, indices: list[int]) -> dict[int, Tensor]:
    """Return these rows' log-probabilities, normalised together."""
    return dict(zip(indices, logits[indices].log_softmax(dim=-1), strict=True)) if indices else {}


def _is_plain_greedy(params: SamplingParams) -> bool:
    penalties = (params.presence_penalty, params.frequency_penalty, params.repetition_penalty)
    return params.temperature == 0 and penalties == (0, 0, 1)


def _choose(logits: Tensor, row: BatchRow, params: SamplingParams) -> int:
    scores = _penalise(logits, row, params)
    if params.temperature == 0:
        return int(most_probable(scores))
    probs = _filter(scores / params.temperature, params).softmax(dim=-1)
    noise = torch.empty_like(probs).exponential_(generator=_generator(params.seed, row.end, probs.device))
    return int(most_probable(probs / noise))  # the exponential race: token t wins with probability probs[t]


def _generator(seed: int, position: int, device: torch.device) -> torch.Generator:
    return torch.Generator(device).manual_seed((seed * _SEED_STEP + position) & _SEED_MASK)


def _penalise(logits: Tensor, row: BatchRow, params: SamplingParams) -> Tensor:
    """Apply OpenAI's presence and frequency penalties (output tokens) and CTRL's repetition penalty (all tokens)."""
    scores = logits.clone()
    if params.repetition_penalty != 1:
        scored = {token for token in row.history if token < scores.numel()}
        seen = torch.tensor(sorted(scored), dtype=torch.int64, device=scores.device)
        found = scores[seen]
        scores[seen] = torch.where(found > 0, found / params.repetition_penalty, found * params.repetition_penalty)
    outputs = Counter(row.history[row.prompt_length :])
    if outputs and (params.presence_penalty or params.frequency_penalty):
        counts = torch.tensor(list(outputs.values()), dtype=scores.dtype, device=scores.device)
        scores[list(outputs)] -= params.presence_penalty + params.frequency_penalty * counts
    return scores


def _filter(scores: Tensor, params: SamplingParams) -> Tensor:
    """Remove what top-k, then top-p, then min-p exclude; the most probable token always stays."""
    if 0 < params.top_k < scores.numel():
        scores = scores.masked_fill(scores < scores.topk(params.top_k).values[-1], float("-inf"))
    if params.top_p < 1:
        ordered, ids = scores.sort(descending=True)
        probs = ordered.softmax(dim=-1)
        outside = probs.cumsum(dim=-1) - probs >= params.top_p
        outside[0] = False
        scores = scores.index_fill(0, ids[outside], float("-inf"))
    if params.min_p > 0:
        probs = scores.softmax(dim=-1)
        scores = scores.masked_fill(probs < params.min_p * probs.max(), float("-inf"))
    return scores
