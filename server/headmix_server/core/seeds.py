"""The seeds of sampled choices: each choice of a request has its own, and can be had again by it."""

import msgspec

from headmix_server.core.types import SamplingParams

SEEDS = 2**63
"""Seeds are below this; OpenAI's negative ones wrap around."""


def for_choice(sampling: SamplingParams, choice: int) -> SamplingParams:
    """Return the parameters of one of several choices: the same but for the seed."""
    return msgspec.structs.replace(sampling, seed=(sampling.seed + choice) % SEEDS)
