"""What choosing and scoring tokens costs next to computing them, in the fair share's tokens.

Measured with `python -m benchmarks.sampler` and the native sampler on the example base (vocabulary 49,152, two cores
of a Xeon with AVX-512) and set against a generated token of the fastest form it has, int8 at 32 rows: 1,000
microseconds for `OUTPUT_COST`. On slower forms these shares are smaller still; no tenant is charged too little.
"""

from headmix_server.core.sampling import penalises
from headmix_server.core.types import SamplingParams, TaskParams

LOGPROB_COST = 0.03
"""A token's log-probability: 13 microseconds, the sum over the vocabulary."""
ALTERNATIVE_COST = 0.001
"""One alternative told next to it: 0.5 microseconds."""
HISTORY_COST = 2.5e-5
"""One token of the history that a choice is penalised by: 12 microseconds per 1,000."""
GRAMMAR_COST = 0.03
"""Finding which tokens a grammar allows, and ruling the others out: 5 and some 10 microseconds."""
PROMPT_LOGPROB_COST = 0.5
"""A prompt token's log-probability: the product with the head, and the sum over the vocabulary."""


def output_extra(params: TaskParams, length: int) -> float:
    """Return what a generated token costs next to itself, where its sequence has so many tokens."""
    if not isinstance(params, SamplingParams):
        return 0.0
    cost = 0.0 if params.logprobs is None else LOGPROB_COST + ALTERNATIVE_COST * params.logprobs
    cost += 0.0 if params.grammar is None else GRAMMAR_COST
    return cost + HISTORY_COST * length if penalises(params) else cost


def input_extra(params: TaskParams) -> float:
    """Return what a token of the prompt costs next to itself."""
    if not isinstance(params, SamplingParams) or not params.prompt_logprobs:
        return 0.0
    return PROMPT_LOGPROB_COST + ALTERNATIVE_COST * (params.logprobs or 0)
