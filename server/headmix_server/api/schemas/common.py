"""What request bodies share: strictness, the neutral values clients send of their own accord, sampling parameters."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

Neutral = Mapping[str, tuple[object, ...]]

LARGEST = 2**63 - 1
"""Of an integer: what the messages to the engine can carry."""


class RequestBody(BaseModel):
    """A body that is understood in full or refused.

    `neutral` lists parameters of OpenAI's that are not supported, with the values that ask for nothing: client
    libraries send those unasked, so they are dropped. Any other value would change the output, and is refused.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    neutral: ClassVar[Neutral] = MappingProxyType({})

    @model_validator(mode="before")
    @classmethod
    def _drop_neutral(cls, body: object) -> object:
        if not isinstance(body, dict):
            return body
        return {name: value for name, value in body.items() if not (name in cls.neutral and value in cls.neutral[name])}


class ResponseBody(BaseModel):
    """A body this server writes."""

    model_config = ConfigDict(frozen=True)


def _require_unicode(text: str) -> str:
    """JSON can write half of a surrogate pair, which is no character and has no bytes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("the text holds half of a surrogate pair") from None
    return text


Text = Annotated[str, AfterValidator(_require_unicode)]


TokenId = Annotated[int, Field(ge=0)]
PromptInput = Text | list[Text] | list[TokenId] | list[list[TokenId]]
"""One text or several, each as text or as token ids."""


def as_prompts(given: str | list[str] | list[int] | list[list[int]]) -> list[str | list[int]]:
    """Return the texts of a `PromptInput`, one an entry."""
    if isinstance(given, str):
        return [given]
    if given and isinstance(given[0], int):
        return [[token for token in given if isinstance(token, int)]]
    return [prompt for prompt in given if not isinstance(prompt, int)]


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


OneOrMore = BeforeValidator(_as_list, json_schema_input_type=str | list[str])
"""On a field of several texts: one text alone is a list of one."""

StopStrings = Annotated[list[Annotated[Text, Field(min_length=1, max_length=256)]], OneOrMore, Field(max_length=16)]


class StreamOptions(BaseModel):
    """OpenAI's options of a stream."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class SamplingBody(RequestBody):
    """What both generation routes take; the last six are extras that OpenAI's API does not have."""

    model: str
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: int | None = Field(None, ge=1, le=LARGEST)
    stop: StopStrings | None = None
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    seed: int | None = Field(None, ge=-(2**63), le=LARGEST)
    user: str | None = None
    metadata: dict[str, Any] | None = None
    store: bool | None = None
    service_tier: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    top_k: int | None = Field(None, ge=-1, le=LARGEST)
    min_p: float | None = Field(None, ge=0, le=1)
    repetition_penalty: float | None = Field(None, gt=0, le=10)
    stop_token_ids: list[Annotated[int, Field(ge=0, le=LARGEST)]] | None = Field(None, max_length=64)
    ignore_eos: bool | None = None

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with the usage."""
        return self.stream_options is not None and bool(self.stream_options.include_usage)


class Usage(ResponseBody):
    """Token counts: prompts once each, completions over all choices."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class PromptTokensDetails(ResponseBody):
    """How many of the prompts' tokens had been computed before and did not have to be again."""

    cached_tokens: int


class GenerationUsage(Usage):
    """The counts of a generation."""

    prompt_tokens_details: PromptTokensDetails
