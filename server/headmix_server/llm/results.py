"""What an `LLM` returns for one input: a text, a label, or a vector."""

from dataclasses import dataclass

from headmix_server.core.types import FinishReason, TokenLogprob


@dataclass(frozen=True, slots=True)
class Generation:
    """A completion. `tokens` has all that were generated, one that ended the text included; `logprobs` if asked for."""

    text: str
    tokens: tuple[int, ...]
    finish_reason: FinishReason
    prompt_tokens: int
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class Classification:
    """A classifier's scores by label: probabilities, or raw values of a regression head.

    `label` is the best one; `labels` are those of a multi-label head that reach 0.5, empty for other heads.
    """

    label: str
    scores: dict[str, float]
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Embedding:
    """A text's vector."""

    vector: tuple[float, ...]
