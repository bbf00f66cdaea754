"""The sampler in torch's operations: what the kernels are tested against, and the fallback where there are none.

All rows are one computation, and nothing is read back: on a GPU no row waits for the device. The filters' bounds are
found in the scores' bits, digit by digit from histograms, so nothing is sorted.
"""

import torch
from torch import Tensor
from torch.nn import functional

from headmix_server.core.types import UNSCORED
from headmix_server.kernels.sampling.choice import Choices
from headmix_server.kernels.sampling.philox import draw_words, gumbel
from headmix_server.kernels.sampling.plan import NO_TOKEN, NOTHING_ALLOWED, Number, Real, SamplingPlan

_DIGITS = ((21, 11), (10, 11), (0, 10))
"""The shift of each digit in the search for a bound, and its number of bits."""
_TOKEN_BITS = 24
"""Larger than any token id."""


def torch_choose(logits: Tensor, added: Tensor, plan: SamplingPlan) -> Choices:
    """See `kernels.sampling.choice.Choose`."""
    scores = torch.cat([logits.float(), added], dim=-1)
    return complete(scores, _choose(lower(scores, plan), plan), plan, logits.shape[1])


def complete(scores: Tensor, tokens: Tensor, plan: SamplingPlan, vocabulary: int) -> Choices:
    """Return the choices of rows whose tokens are drawn: no token where scores are not finite, else any given token.

    `scores` are those of the model; a row has one for each token of the vocabulary and its added tokens.
    """
    sound = ~scores.isnan().any(dim=-1) & scores.amax(dim=-1).isfinite()
    given = plan.numbers[:, Number.GIVEN]
    tokens = torch.where(sound, torch.where(given == NO_TOKEN, tokens, given), NO_TOKEN)
    return Choices(tokens, *_describe(scores, tokens, plan, vocabulary))


def most_probable(scores: Tensor) -> Tensor:
    """Return the first tokens with the highest scores [rows, width], `NO_TOKEN` where that score is not finite.

    NaN counts as the highest score. Where every score is -inf, which complete rows have only once masks and biases have
    banned everything, the token is `NOTHING_ALLOWED`.
    """
    best = scores.max(dim=-1)
    none = torch.where(best.values == -torch.inf, NOTHING_ALLOWED, NO_TOKEN)
    return torch.where(best.values.isfinite(), best.indices, none)


def lower(scores: Tensor, plan: SamplingPlan) -> Tensor:
    """Return the scores from which tokens are chosen, with masks, then biases, then penalties applied."""
    return _penalise(_bias(_ban(scores, plan), plan), plan)


def _ban(scores: Tensor, plan: SamplingPlan) -> Tensor:
    """Return scores with -inf wherever a row's mask does not allow a token."""
    if not len(plan.masks):
        return scores
    width = scores.shape[1]
    bits = plan.masks[:, :, None] >> torch.arange(32, dtype=torch.int32, device=scores.device)
    allowed = functional.pad((bits & 1).flatten(1), (0, max(0, width - 32 * bits.shape[1])))[:, :width] == 1
    place = plan.numbers[:, Number.MASK]
    return scores.masked_fill((place >= 0)[:, None] & ~allowed[place.clamp(min=0)], -torch.inf)


def _bias(scores: Tensor, plan: SamplingPlan) -> Tensor:
    """Return scores with the rows' biases added; tokens beyond the width are ignored."""
    if not len(plan.biased):
        return scores
    row, place = _places(plan.numbers[:, Number.BIAS_TO], plan.biased, scores)
    padded = functional.pad(scores, (0, 1))
    return padded.index_put((row, place), padded[row, place] + plan.biases)[:, :-1]


def _places(ends: Tensor, tokens: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
    """Return the rows of a table's entries, which end at `ends`, and their tokens, clamped to the width.

    Tokens beyond the width are inputs only, never chosen: they share a column that is cut off.
    """
    row = torch.searchsorted(ends.contiguous(), torch.arange(len(tokens), device=scores.device), right=True)
    return row, tokens.long().clamp(max=scores.shape[1])


def _penalise(scores: Tensor, plan: SamplingPlan) -> Tensor:
    """Return scores after CTRL's repetition penalty (on every token seen) and OpenAI's (on those in the answer)."""
    if not len(plan.seen):
        return scores
    token, said = plan.seen.unbind(dim=1)
    row, place = _places(plan.numbers[:, Number.SEEN_TO], token, scores)
    reals = plan.reals.double()[row]
    padded = functional.pad(scores, (0, 1))
    after = padded[row, place].double()
    after = torch.where(after > 0, after / reals[:, Real.REPETITION], after * reals[:, Real.REPETITION])
    after -= torch.where(said > 0, reals[:, Real.PRESENCE] + reals[:, Real.FREQUENCY] * said, 0.0)
    return padded.index_put((row, place), after.float())[:, :-1]


def _choose(scores: Tensor, plan: SamplingPlan) -> Tensor:
    greedy = most_probable(scores)
    if not plan.sampled:
        return greedy
    inverse = plan.reals[:, Real.INVERSE_TEMPERATURE]
    x = (scores - scores.amax(dim=-1)[:, None]) * inverse[:, None]
    kept = _filter(scores, x, plan)
    noise = gumbel(draw_words(plan.numbers[:, Number.SEED], plan.numbers[:, Number.POSITION], x.shape[1]))
    drawn = torch.where(kept, x + noise, -torch.inf).argmax(dim=-1)
    return torch.where((inverse > 0) & (greedy >= 0), drawn, greedy)


def _filter(scores: Tensor, x: Tensor, plan: SamplingPlan) -> Tensor:
    """Return what top-k, then top-p, then min-p keep: equal scores stay or go together; the largest always stays."""
    kept = x >= plan.reals[:, Real.LOG_MIN_P, None]
    if plan.top_k:
        top_k = plan.numbers[:, Number.TOP_K]
        wanted = torch.where((top_k > 0) & (top_k < x.shape[1]), top_k, x.shape[1])
        few = scores >= _largest_bound(scores, wanted, torch.ones_like(scores))[:, None]
    else:
        few = torch.ones_like(kept)
    if plan.top_p:
        odds = torch.where(few, x.exp(), 0.0)
        top_p = plan.reals[:, Real.TOP_P].double()
        bound = _largest_bound(x, top_p * odds.sum(dim=-1, dtype=torch.float64), odds)
        kept = kept & ((top_p == 1)[:, None] | (x >= bound[:, None]))
    return kept & few


def _largest_bound(x: Tensor, wanted: Tensor, weights: Tensor) -> Tensor:
    """Return, for every row, the largest bound such that the x at or above it have the wanted weight in total."""
    keys = sortable(x)
    found = torch.zeros_like(keys[:, :1])
    above = torch.zeros_like(wanted[:, None], dtype=torch.float64)
    for shift, bits in _DIGITS:
        digits = (keys >> shift) - (found << bits)
        inside = (digits >= 0) & (digits < 1 << bits)
        masses = torch.zeros(len(keys), 1 << bits, dtype=torch.float64, device=keys.device)
        masses.scatter_add_(1, digits.clamp(0, (1 << bits) - 1), torch.where(inside, weights, 0.0).double())
        reach = masses.flip(1).cumsum(1).flip(1) + above  # total weight of each digit and all larger ones
        digit = ((reach >= wanted[:, None]).sum(dim=1, keepdim=True) - 1).clamp(min=0)
        above = reach.gather(1, digit) - masses.gather(1, digit)
        found = (found << bits) + digit
    return from_sortable(found[:, 0])


def sortable(x: Tensor) -> Tensor:
    """Return integers from 0 up, below 2^32, in the order of the float32 numbers; both zeros are one."""
    bits = (x + 0.0).view(torch.int32).long()
    return torch.where(bits < 0, -1 - bits, bits + 2**31)


def from_sortable(keys: Tensor) -> Tensor:
    """Return the float32 numbers of `sortable` integers."""
    bits = torch.where(keys < 2**31, -1 - keys, keys - 2**31)
    return bits.int().view(torch.float32)


def _describe(scores: Tensor, tokens: Tensor, plan: SamplingPlan, vocabulary: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the tokens' log-probabilities, the most probable tokens, and theirs."""
    rows, width = scores.shape
    if not plan.scored:
        empty = scores.new_zeros(rows, 0)
        return scores.new_zeros(rows), empty.long(), empty
    logprobs = scores.log_softmax(dim=-1)
    own = logprobs.gather(1, tokens.clamp(0, width - 1)[:, None])[:, 0]
    own = torch.where(tokens < vocabulary + plan.numbers[:, Number.ADDED], own, UNSCORED)
    ranks = (sortable(scores) << _TOKEN_BITS) - torch.arange(width, device=scores.device)
    top = ranks.topk(min(plan.alternatives, width), dim=-1).indices
    return own, top, logprobs.gather(1, top)
