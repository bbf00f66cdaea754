"""From a body's sampling parameters to the engine's: defaults and seeds."""

import secrets
from typing import TypeVar

from headmix_server.api.inference.steering import Steering
from headmix_server.api.schemas.generation import SamplingBody
from headmix_server.core.errors import InvalidRequest
from headmix_server.core.sampling import SEEDS
from headmix_server.core.types import SamplingParams

Number = TypeVar("Number", int, float)


def sampling_params(
    body: SamplingBody, steering: Steering, *, max_tokens: int, logprobs: int | None, prompt_logprobs: bool = False
) -> SamplingParams:
    """Return the parameters of a request's first choice; without a given seed, one is drawn.

    Raises:
        InvalidRequest: `min_tokens` is more than may be generated.
    """
    if _or(body.min_tokens, 0) > max_tokens:
        raise InvalidRequest(
            f"min_tokens is {body.min_tokens}, but the answer may have only {max_tokens} tokens.",
            param="min_tokens",
        )
    return SamplingParams(
        max_tokens=max_tokens,
        temperature=_or(body.temperature, 1.0),
        top_p=_or(body.top_p, 1.0),
        top_k=max(0, _or(body.top_k, 0)),
        min_p=_or(body.min_p, 0.0),
        presence_penalty=_or(body.presence_penalty, 0.0),
        frequency_penalty=_or(body.frequency_penalty, 0.0),
        repetition_penalty=_or(body.repetition_penalty, 1.0),
        seed=secrets.randbelow(SEEDS) if body.seed is None else body.seed % SEEDS,
        stop_token_ids=tuple(body.stop_token_ids or ()),
        ignore_eos=bool(body.ignore_eos),
        logprobs=logprobs,
        prompt_logprobs=prompt_logprobs,
        logit_bias=steering.logit_bias,
        bad_words=steering.bad_words,
        min_tokens=_or(body.min_tokens, 0),
        grammar=steering.grammar,
    )


def _or(value: Number | None, default: Number) -> Number:
    return default if value is None else value
