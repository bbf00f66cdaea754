"""Derived from sampling parameters and a history: seeds of choices, whether penalties apply, and a step's biases."""

from collections.abc import Collection, Mapping, Sequence
from math import inf

import msgspec

from headmix_server.core.types import SamplingParams

SEEDS = 2**63
"""Seeds are below this; negative ones, which OpenAI allows, wrap around."""


def for_choice(sampling: SamplingParams, choice: int) -> SamplingParams:
    """Return the parameters of one of several choices: the same except for the seed."""
    return msgspec.structs.replace(sampling, seed=(sampling.seed + choice) % SEEDS)


def penalises(params: SamplingParams) -> bool:
    """Return whether a sequence's history changes its scores."""
    return (params.presence_penalty, params.frequency_penalty, params.repetition_penalty) != (0, 0, 1)


def biases_at(
    params: SamplingParams, history: Sequence[int], prompt_length: int, eos_ids: Collection[int]
) -> Mapping[int, float]:
    """Return what is added to tokens' scores before the token after `history` is chosen; -inf bans one.

    These are the request's own biases, the last tokens of bad words whose first tokens the output ends with (as in
    vLLM), and, before its least length, the tokens that would end it.
    """
    if not (params.logit_bias or params.bad_words or params.min_tokens):
        return {}
    biases = dict(params.logit_bias)
    num_outputs = len(history) - prompt_length
    if num_outputs < params.min_tokens:
        biases.update(dict.fromkeys((*eos_ids, *params.stop_token_ids), -inf))
    for word in params.bad_words:
        before = len(word) - 1
        if before <= num_outputs and tuple(history[len(history) - before :]) == word[:-1]:
            biases[word[-1]] = -inf
    return biases
