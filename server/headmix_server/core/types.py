"""The types that both processes share: adapter references, sampling and embedding parameters, finish reasons.

Plain immutable structs without behaviour. They do not know how they are sent (`messages`) or who computes with them.
"""

from enum import StrEnum

import msgspec

from headmix_adapters.config import Pooling


class Frozen(msgspec.Struct, frozen=True, kw_only=True):
    """Immutable; fields are passed by name only."""


class AdapterRef(Frozen, frozen=True):
    """One immutable artifact as the engine needs it: its identity, where its bytes are, and whose request names it.

    `digest` is the identity everywhere inside the engine; `name` and `version` are only for messages and metrics.
    `base` is the fingerprint of the base it was accepted for, which may differ from the one in its header. `size_bytes`
    is the file's size, which determines the memory reserved for loading it.
    """

    digest: str
    base: str
    path: str
    name: str
    version: int
    tenant: str
    size_bytes: int = 0


class ScaledAdapter(Frozen, frozen=True):
    """An adapter whose terms are multiplied by `scale`."""

    adapter: AdapterRef
    scale: float


class SamplingParams(Frozen, frozen=True):
    """How the next token is chosen. `temperature` 0 is greedy; `top_k` 0, `top_p` 1 and `min_p` 0 disable these.

    `seed` None means a seed drawn by the API process before it submits, so the engine always gets a number.
    `logprobs` None returns none; 0 returns the chosen token's; n > 0 adds the n most probable alternatives.
    `logit_bias` is added to tokens' scores, each token once. Nothing of `bad_words`, token by token, is generated.
    Before `min_tokens` no token ends the generation. `grammar`: see `core.grammar`.
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
    logit_bias: tuple[tuple[int, float], ...] = ()
    bad_words: tuple[tuple[int, ...], ...] = ()
    min_tokens: int = 0
    grammar: str | None = None


class ClassificationParams(Frozen, frozen=True):
    """How a text is scored: mostly determined by the adapter's head.

    `second` is where the second text of a pair begins, for bases that mark its tokens with a type; 0 if there is none.
    """

    second: int = 0


class EmbeddingParams(Frozen, frozen=True):
    """How a text's final hidden states become one vector; `normalize` divides it by its Euclidean length."""

    pooling: Pooling
    normalize: bool


TaskParams = SamplingParams | ClassificationParams | EmbeddingParams
"""The kinds of work a sequence is computed for: a generation, a classification or an embedding.

Code that distinguishes them matches all of them and ends in `assert_never`, so that a new kind is a type error.
"""


class TokenCounts(Frozen, frozen=True):
    """What was computed for one request: the prompt tokens that were read, and the tokens that were generated.

    `cached` of the prompt's tokens were found in the cache. Tokens recomputed after a preemption count once.
    """

    prompt: int = 0
    cached: int = 0
    generated: int = 0


class FinishReason(StrEnum):
    """Why a generation ended, in OpenAI's terms."""

    STOP = "stop"
    LENGTH = "length"


class Residency(StrEnum):
    """The fastest tier that holds an adapter's tensors."""

    DEVICE = "device"
    HOST = "host"
    DISK = "disk"


UNSCORED = -9999.0
"""The log-probability of a token without a score, as OpenAI reports nearly impossible tokens."""


class TokenLogprob(Frozen, frozen=True):
    """The natural log-probability of the token and of the most probable alternatives, from the unscaled logits."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()
