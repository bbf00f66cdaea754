"""Bodies of /v1/completions, in OpenAI's shape."""

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field

from headmix_server.api.schemas.body import ResponseBody
from headmix_server.api.schemas.common import LARGEST, GenerationUsage, Text
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
    max_completion_tokens: Annotated[int, Field(ge=0, le=LARGEST), Whole] | None = Field(
        None, description="The newer name of `max_tokens`, which it overrides."
    )
    best_of: Annotated[int, Field(ge=1, le=LARGEST), Whole] | None = Field(
        None, description="So many completions are generated per prompt, of which the `n` most probable are returned."
    )
    suffix: Text | None = Field(None, description="The text behind the completion, on bases that fill in.")
    logprobs: Annotated[Annotated[int, Field(ge=0, le=20), Whole] | None, BeforeValidator(_none_for_false)] = Field(
        None, description="`false` means none, as in a chat completion."
    )
    echo: bool | None = None

    @property
    def prompts(self) -> list[str | Sequence[int]]:
        """The prompts, one per entry."""
        return as_prompts(self.prompt)

    @property
    def max_generated(self) -> int | None:
        """The most tokens that the client wants of a completion, if it says so."""
        return self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens

    @property
    def scores_only(self) -> bool:
        """Whether the prompt is scored and nothing behind it is returned."""
        return self.max_generated == 0

    @property
    def candidates(self) -> int:
        """How many completions are generated per prompt."""
        return self.best_of or self.n or 1

    @property
    def ranks(self) -> bool:
        """Whether only the most probable of the candidates are returned."""
        return self.candidates > (self.n or 1)

    @property
    def num_choices(self) -> int:
        """See `ModelBody`."""
        return self.candidates * len(self.prompts)


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
