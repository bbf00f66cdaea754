"""What both generation routes take: stop strings, sampling parameters, the form of the answer, options of streams."""

from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BeforeValidator, Field

from headmix_server.api.schemas.adapted import AdaptedBody
from headmix_server.api.schemas.body import RequestBody, shown
from headmix_server.api.schemas.common import LARGEST, Text
from headmix_server.api.schemas.numbers import AllWhole, Whole
from headmix_server.api.schemas.structured import ResponseFormat, SchemaOrText, StructuredOutputs
from headmix_server.api.schemas.truncation import TruncatingBody


def _without_empty(stops: object) -> object:
    if isinstance(stops, str):
        stops = [stops]
    return [stop for stop in stops if stop != ""] if isinstance(stops, list) else stops


StopStrings = Annotated[
    list[Annotated[Text, Field(max_length=256)]],
    Field(max_length=16, fail_fast=True),
    BeforeValidator(_without_empty, json_schema_input_type=str | list[str]),
]
"""An empty string stops nothing: clients send it when no stop string was set."""


StopTokenIds = Annotated[list[Annotated[int, Field(ge=0, le=LARGEST)]], Field(max_length=64, fail_fast=True), AllWhole]


LEAST_TEMPERATURE = 1e-8
"""Above 0, since scores are divided by it: with much smaller values they would overflow."""

LEAST_REPETITION_PENALTY = 0.01


def _require_computable(temperature: float) -> float:
    if 0 < temperature < LEAST_TEMPERATURE:
        raise ValueError(
            f"a temperature above 0 must be at least {LEAST_TEMPERATURE:g}; 0 takes the most probable token"
        )
    return temperature


Temperature = Annotated[float, Field(ge=0, le=2), AfterValidator(_require_computable)]


MAX_BIASES = 1_024


def _require_biases(biases: object) -> object:
    """Stop at the first fault: a body may have a hundred thousand of them."""
    if not isinstance(biases, dict):
        return biases
    if len(biases) > MAX_BIASES:
        raise ValueError(f"at most {MAX_BIASES:,} tokens have a bias")
    for token, bias in biases.items():
        if isinstance(bias, bool) or not isinstance(bias, int | float) or not -100 <= bias <= 100:
            raise ValueError(f"a bias is a number from -100 to 100, which that of {shown(str(token))} is not")
    return biases


LogitBias = Annotated[dict[str, float], BeforeValidator(_require_biases)]


class StreamOptions(RequestBody):
    """OpenAI's stream options, and vLLM's `continuous_usage_stats`."""

    drops_null: ClassVar[bool] = True

    include_usage: bool | None = None
    include_obfuscation: bool | None = None
    continuous_usage_stats: bool | None = Field(
        None, description="With `include_usage`: every event reports the usage of its choice so far."
    )


class SamplingBody(AdaptedBody, TruncatingBody):
    """The parameters of both generation routes; those from `top_k` on are not part of OpenAI's API."""

    drops_null: ClassVar[bool] = True

    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Annotated[int, Field(ge=1, le=LARGEST), Whole] | None = None
    stop: StopStrings | None = None
    temperature: Temperature | None = Field(None, description="0, or from 1e-8 to 2.")
    top_p: float | None = Field(None, gt=0, le=1)
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    logit_bias: LogitBias | None = Field(None, description="From token ids to -100 to 100, added to their scores.")
    response_format: ResponseFormat | None = None
    seed: Annotated[int, Field(ge=-(2**63), le=LARGEST), Whole] | None = None
    metadata: dict[str, Any] | None = None
    store: bool | None = None
    service_tier: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_options: dict[str, Any] | None = None
    prompt_cache_retention: str | None = None
    top_k: Annotated[int, Field(ge=-1, le=LARGEST), Whole] | None = None
    min_p: float | None = Field(None, ge=0, le=1)
    repetition_penalty: float | None = Field(None, ge=LEAST_REPETITION_PENALTY, le=10)
    stop_token_ids: StopTokenIds | None = None
    ignore_eos: bool | None = None
    split_special_tokens: bool | None = None
    skip_special_tokens: bool | None = Field(None, description="False shows the special tokens that are generated.")
    min_tokens: Annotated[int, Field(ge=0, le=LARGEST), Whole] | None = Field(
        None, description="So many tokens come before one may end the answer."
    )
    bad_words: Annotated[list[Annotated[Text, Field(max_length=256)]], Field(max_length=64, fail_fast=True)] | None = (
        Field(None, description="Texts that are not generated.")
    )
    structured_outputs: StructuredOutputs | None = None
    guided_json: SchemaOrText | None = Field(None, description="The older name of `structured_outputs.json`.")
    guided_regex: Text | None = Field(None, description="The older name of `structured_outputs.regex`.")
    guided_choice: Annotated[list[Text], Field(fail_fast=True)] | None = Field(
        None, description="The older name of `structured_outputs.choice`."
    )
    guided_grammar: Text | None = Field(None, description="The older name of `structured_outputs.grammar`.")
    guided_whitespace_pattern: Text | None = Field(
        None, description="The older name of `structured_outputs.whitespace_pattern`."
    )

    @property
    def num_choices(self) -> int:
        """See `ModelBody`."""
        return self.n or 1

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with an event that reports the usage."""
        return self.stream_options is not None and bool(self.stream_options.include_usage)

    @property
    def continuous_usage(self) -> bool:
        """Whether every event of a stream reports the usage so far; as in vLLM, only together with `include_usage`."""
        options = self.stream_options
        return self.include_usage and options is not None and bool(options.continuous_usage_stats)
