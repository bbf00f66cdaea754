"""Derived from sampling parameters alone: the seeds of a request's choices, and whether its history matters."""

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
