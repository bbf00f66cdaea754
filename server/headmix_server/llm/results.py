"""The results of an `LLM` for one input: a text, a label, or a vector."""

from dataclasses import dataclass

from headmix_server.core.types import FinishReason, TokenLogprob


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of a tool; `arguments` are a JSON text, an object."""

    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Generation:
    """A completion. `tokens` are all generated ones, including one that ended the text; `logprobs` if requested.

    Of a chat with tools, `tool_calls` and `reasoning` are not part of the text.
    """

    text: str
    tokens: tuple[int, ...]
    finish_reason: FinishReason
    prompt_tokens: int
    logprobs: tuple[TokenLogprob, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    reasoning: str = ""


@dataclass(frozen=True, slots=True)
class Classification:
    """A classifier's scores by label: probabilities, or the raw value of a regression head.

    `label` has the highest score; `labels` are those of a multi-label head that reach 0.5, and empty for other heads.
    """

    label: str
    scores: dict[str, float]
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Embedding:
    """A text's vector."""

    vector: tuple[float, ...]
