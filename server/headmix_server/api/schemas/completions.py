"""Bodies of /v1/completions, in OpenAI's shape."""

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field

from headmix_server.api.schemas.body import ResponseBody
from headmix_server.api.schemas.common import LARGEST, GenerationUsage
from headmix_server.api.schemas.generation import SamplingBody
from headmix_server.api.schemas.neutral import COMPLETIONS, Neutral
from headmix_server.api.schemas.numbers import Whole
from headmix_server.api.schemas.prompt_input import PromptInput, as_prompts


def _none_for_false(logprobs: object) -> object:
    return None if logprobs is False else logprobs


class CompletionRequest(SamplingBody):
    """Continue one or more prompts, given as text or as token ids."""

    neutral: ClassVar[Neutral] = COMPLETIONS

    prompt: PromptInput
    max_tokens: Annotated[int, Field(ge=0, le=LARGEST), Whole] | None = Field(
        None, description="Defaults to 16; 0 is only allowed with `echo`."
    )
    logprobs: Annotated[Annotated[int, Field(ge=0, le=20), Whole] | None, BeforeValidator(_none_for_false)] = Field(
        None, description="`false` means none, as in a chat completion."
    )
    echo: bool | None = None

    @property
    def prompts(self) -> list[str | Sequence[int]]:
        """The prompts, one per entry."""
        return as_prompts(self.prompt)

    @property
    def num_choices(self) -> int:
        """See `ModelBody`."""
        return (self.n or 1) * len(self.prompts)


class CompletionLogprobs(ResponseBody):
    """One entry per token of `text`; `text_offset` is the character position in `text` where the token begins."""

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
    """The response, or one event of a stream."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: GenerationUsage | None = None
