"""Bodies of /v1/completions, in OpenAI's shape."""

from types import MappingProxyType
from typing import ClassVar, Literal

from pydantic import Field

from headmix_server.api.schemas.common import (
    LARGEST,
    GenerationUsage,
    Neutral,
    PromptInput,
    ResponseBody,
    SamplingBody,
    as_prompts,
)


class CompletionRequest(SamplingBody):
    """Continue one or more prompts, given as text or as token ids."""

    neutral: ClassVar[Neutral] = MappingProxyType(
        {
            "best_of": (None, 1),
            "suffix": (None, ""),
            "logit_bias": (None, {}),
            "response_format": (None, {"type": "text"}),
        }
    )

    prompt: PromptInput
    max_tokens: int | None = Field(
        None, ge=0, le=LARGEST, description="16 where it is absent; 0 only together with `echo`."
    )
    logprobs: int | None = Field(None, ge=0, le=20)
    echo: bool | None = None

    @property
    def prompts(self) -> list[str | list[int]]:
        """The prompts, one an entry."""
        return as_prompts(self.prompt)


class CompletionLogprobs(ResponseBody):
    """One entry a token of `text`; `text_offset` is the character of `text` where the token begins."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class CompletionChoice(ResponseBody):
    """One completion, or what a stream adds to it."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None = None
    finish_reason: Literal["stop", "length"] | None


class Completion(ResponseBody):
    """The answer, or one event of a stream."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: GenerationUsage | None = None
