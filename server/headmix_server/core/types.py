"""The nouns both processes speak of: adapter references, sampling and embedding parameters, finish reasons.

Plain immutable structs without behaviour. They know neither how they travel (`messages`) nor who computes with them.
"""

from enum import StrEnum

import msgspec

from headmix_adapters.config import Pooling


class Frozen(msgspec.Struct, frozen=True, kw_only=True):
    """Immutable; fields by name only."""


class AdapterRef(Frozen, frozen=True):
    """One immutable artifact as the engine needs it: identity, where its bytes are, and whose request names it.

    `digest` is the identity everywhere inside the engine; `name` and `version` are for messages and metrics only.
    `base` is the fingerprint of the base it was accepted for, which is not always the one its header names.
    `size_bytes` is the file's size: what loading it takes is judged by that.
    """

    digest: str
    base: str
    path: str
    name: str
    version: int
    tenant: str
    size_bytes: int = 0


class SamplingParams(Frozen, frozen=True):
    """How the next token is chosen. `temperature` 0 is greedy; `top_k` 0, `top_p` 1 and `min_p` 0 switch those off.

    `seed` None means a seed drawn by the API process before it submits, so the engine always gets a number.
    `logprobs` None returns none; 0 returns the chosen token's; n > 0 adds the n most probable alternatives.
    """

    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    seed: int = 0
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    logprobs: int | None = None
    prompt_logprobs: bool = False


class ClassificationParams(Frozen, frozen=True):
    """How a text is scored: as the adapter's head says, so a request has nothing to choose."""


class EmbeddingParams(Frozen, frozen=True):
    """How a text's final hidden states become one vector; `normalize` divides it by its Euclidean length."""

    pooling: Pooling
    normalize: bool


TaskParams = SamplingParams | ClassificationParams | EmbeddingParams
"""What a sequence is computed for: a generation, a classification or an embedding.

Code that treats them differently matches all of them and ends in `assert_never`, so that a new kind is a type error.
"""


class TokenCounts(Frozen, frozen=True):
    """What was computed for one request: tokens of its prompt that were read, and tokens generated.

    `cached` of the prompt's were found computed. What had to be computed again after a preemption counts once.
    """

    prompt: int = 0
    cached: int = 0
    generated: int = 0


class FinishReason(StrEnum):
    """Why a generation ended, in OpenAI's words."""

    STOP = "stop"
    LENGTH = "length"


class Residency(StrEnum):
    """The fastest place that holds an adapter's tensors."""

    DEVICE = "device"
    HOST = "host"
    DISK = "disk"


UNSCORED = -9999.0
"""The log-probability of a token that has no score, as OpenAI writes one that is all but impossible."""


class TokenLogprob(Frozen, frozen=True):
    """The log-probability (natural) of the token and of the most probable alternatives, from the unscaled logits."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()
