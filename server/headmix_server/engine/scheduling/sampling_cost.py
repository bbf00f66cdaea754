"""What choosing and scoring tokens costs in addition to computing them, in the tokens of the fair share.

Measured with `python -m benchmarks.sampler` and the native sampler on the example base (vocabulary 49,152, two cores
of a Xeon with AVX-512), relative to a generated token in that base's fastest form, int8 at 32 rows: 1,000 microseconds
for `OUTPUT_COST`. On slower forms these shares are smaller still; no tenant is charged too little.
"""

from headmix_server.core.sampling import penalises
from headmix_server.core.types import SamplingParams, TaskParams

LOGPROB_COST = 0.03
"""A token's log-probability: 13 microseconds, the sum over the vocabulary."""
ALTERNATIVE_COST = 0.001
"""One alternative returned with it: 0.5 microseconds."""
HISTORY_COST = 2.5e-5
"""One token of the history that penalties are computed from: 12 microseconds per 1,000."""
GRAMMAR_COST = 0.03
"""Finding the tokens that a grammar allows, and masking the others: 5 and about 10 microseconds."""
PROMPT_LOGPROB_COST = 0.5
"""A prompt token's log-probability: the product with the head, and the sum over the vocabulary."""


def output_extra(params: TaskParams, length: int) -> float:
    """Return the additional cost of a generated token of a sequence with `length` tokens."""
    if not isinstance(params, SamplingParams):
        return 0.0
    cost = 0.0 if params.logprobs is None else LOGPROB_COST + ALTERNATIVE_COST * params.logprobs
    cost += 0.0 if params.grammar is None else GRAMMAR_COST
    return cost + HISTORY_COST * length if penalises(params) else cost


def input_extra(params: TaskParams) -> float:
    """Return the additional cost of a prompt token."""
    if not isinstance(params, SamplingParams) or not params.prompt_logprobs:
        return 0.0
    return PROMPT_LOGPROB_COST + ALTERNATIVE_COST * (params.logprobs or 0)
