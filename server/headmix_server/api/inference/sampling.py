"""Turns a body's sampling parameters into the engine's: defaults, seeds, and the length a request may have."""

import secrets
from typing import TypeVar

from headmix_server.api.schemas.common import SamplingBody
from headmix_server.core.errors import ContextLengthExceeded, InvalidRequest
from headmix_server.core.messages import EngineReady
from headmix_server.core.sampling import SEEDS
from headmix_server.core.types import SamplingParams

Number = TypeVar("Number", int, float)


def sampling_params(
    body: SamplingBody, *, max_tokens: int, logprobs: int | None, prompt_logprobs: bool = False
) -> SamplingParams:
    """Return the parameters of a request's first choice; without a given seed, one is drawn."""
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
    )


def context_length(ready: EngineReady) -> int:
    """Return the most tokens a prompt and its completion may have together."""
    return min(ready.max_model_len, ready.kv_blocks * ready.block_size)


def check_length(prompt: int, max_tokens: int, limit: int, *, param: str) -> None:
    """Refuse an empty prompt, and one that leaves no room for the requested completion.

    Raises:
        InvalidRequest: there are no tokens.
        ContextLengthExceeded: there are too many.
    """
    if prompt == 0:
        raise InvalidRequest("The prompt is empty.", param=param)
    if prompt + max_tokens > limit:
        raise ContextLengthExceeded(
            f"This model's context length is {limit} tokens, but {prompt + max_tokens} were requested: "
            f"{prompt} in the prompt and {max_tokens} for the completion.",
            param=param,
        )


def _or(value: Number | None, default: Number) -> Number:
    return default if value is None else value
