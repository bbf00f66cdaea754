"""Bodies of /v1/responses, in OpenAI's shape. Nothing is stored: parameters that need that are refused by name."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from headmix_server.api.schemas.body import ModelBody, RequestBody, ResponseBody, unsupported
from headmix_server.api.schemas.common import LARGEST, Text
from headmix_server.api.schemas.generation import LEAST_REPETITION_PENALTY, Temperature
from headmix_server.api.schemas.neutral import REASONING, RESPONSES, TEXT, Neutral
from headmix_server.api.schemas.numbers import Whole
from headmix_server.api.schemas.response_input import ResponseInput
from headmix_server.api.schemas.response_tools import ResponseToolChoice, ResponseTools
from headmix_server.api.schemas.structured import Schema

STORED = ("previous_response_id", "conversation", "prompt", "background", "store")
"""Parameters that need something stored on the server."""

LOGPROBS = "message.output_text.logprobs"


class TextFormat(RequestBody):
    """The form of the answer, as `response_format` of a chat, with the fields of `json_schema` beside the type."""

    drops_null: ClassVar[bool] = True

    type: Literal["text", "json_object", "json_schema"]
    name: Annotated[Text, Field(max_length=64)] | None = None
    description: Text | None = None
    schema_: Annotated[Schema | None, Field(alias="schema")] = None
    strict: bool | None = None


class TextOptions(RequestBody):
    """What the answer's text is like."""

    neutral: ClassVar[Neutral] = TEXT
    drops_null: ClassVar[bool] = True

    format: TextFormat | None = None


class Reasoning(RequestBody):
    """How the model reasons: there is nothing to set."""

    neutral: ClassVar[Neutral] = REASONING
    drops_null: ClassVar[bool] = True


class ResponseStreamOptions(RequestBody):
    """OpenAI's only option has no effect."""

    drops_null: ClassVar[bool] = True

    include_obfuscation: bool | None = None


class ResponsesRequest(ModelBody):
    """Answer a conversation; those from `seed` on are not part of OpenAI's API."""

    neutral: ClassVar[Neutral] = RESPONSES
    drops_null: ClassVar[bool] = True

    input: ResponseInput
    instructions: Text | None = Field(None, description="A system message before the input.")
    max_output_tokens: Annotated[int, Field(ge=1, le=LARGEST), Whole] | None = Field(
        None, description="Defaults to the rest of the context."
    )
    temperature: Temperature | None = Field(None, description="0, or from 1e-8 to 2.")
    top_p: float | None = Field(None, gt=0, le=1)
    text: TextOptions | None = None
    include: (
        Annotated[
            list[Literal["message.output_text.logprobs", "reasoning.encrypted_content"]],
            Field(max_length=16, fail_fast=True),
        ]
        | None
    ) = None
    top_logprobs: Annotated[int, Field(ge=0, le=20), Whole] | None = None
    stream: bool | None = None
    stream_options: ResponseStreamOptions | None = None
    reasoning: Reasoning | None = None
    tools: ResponseTools | None = Field(None, description="Functions that the model may call.")
    tool_choice: ResponseToolChoice | None = Field(None, description="Defaults to `auto` where there are tools.")
    parallel_tool_calls: bool | None = Field(None, description="False: at most one call in an answer.")
    metadata: dict[str, Any] | None = None
    service_tier: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_options: dict[str, Any] | None = None
    prompt_cache_retention: str | None = None
    seed: Annotated[int, Field(ge=-(2**63), le=LARGEST), Whole] | None = None
    top_k: Annotated[int, Field(ge=-1, le=LARGEST), Whole] | None = None
    min_p: float | None = Field(None, ge=0, le=1)
    repetition_penalty: float | None = Field(None, ge=LEAST_REPETITION_PENALTY, le=10)
    split_special_tokens: bool | None = None

    @property
    def wants_logprobs(self) -> bool:
        """Whether the answer has its tokens' log-probabilities."""
        return LOGPROBS in (self.include or ()) or bool(self.top_logprobs)

    @classmethod
    def _require_neutral(cls, name: str, value: object) -> None:
        if name in STORED and value not in (None, False):
            raise unsupported(name, f"The parameter {name!r} is not supported: this server stores no responses.")
        super()._require_neutral(name, value)


class IncompleteDetails(ResponseBody):
    """Why a response ended early."""

    reason: Literal["max_output_tokens"]


class ResponseFailure(ResponseBody):
    """Why a response failed."""

    code: str
    message: str


class InputTokensDetails(ResponseBody):
    """How many of the prompt's tokens came from the prefix cache."""

    cached_tokens: int
    cache_write_tokens: int = 0


class OutputTokensDetails(ResponseBody):
    """No token counts as reasoning."""

    reasoning_tokens: int = 0


class ResponseUsage(ResponseBody):
    """Token counts."""

    input_tokens: int
    input_tokens_details: InputTokensDetails
    output_tokens: int
    output_tokens_details: OutputTokensDetails = OutputTokensDetails()
    total_tokens: int


class ResponseTopLogprob(ResponseBody):
    """One of the most probable tokens at a position; as in a chat."""

    token: str
    logprob: float
    bytes: list[int] | None


class ResponseLogprob(ResponseTopLogprob):
    """A token of the text."""

    top_logprobs: list[ResponseTopLogprob]


class OutputText(ResponseBody):
    """A part of a message."""

    type: Literal["output_text"] = "output_text"
    text: str
    annotations: list[None] = Field([])
    logprobs: list[ResponseLogprob] = Field([])


class OutputMessage(ResponseBody):
    """A message of the model."""

    id: str
    type: Literal["message"] = "message"
    status: Literal["in_progress", "completed", "incomplete"]
    role: Literal["assistant"] = "assistant"
    content: list[OutputText]


class OutputCall(ResponseBody):
    """A call of a function: send it back, with its result in an item of the type `function_call_output`."""

    id: str
    type: Literal["function_call"] = "function_call"
    status: Literal["in_progress", "completed", "incomplete"]
    call_id: str
    name: str
    arguments: str


class OutputReasoningText(ResponseBody):
    """A part of what the model reasoned."""

    type: Literal["reasoning_text"] = "reasoning_text"
    text: str


class OutputReasoning(ResponseBody):
    """What the model reasoned before the next item."""

    id: str
    type: Literal["reasoning"] = "reasoning"
    status: Literal["in_progress", "completed", "incomplete"]
    summary: list[None] = Field([])
    content: list[OutputReasoningText]


class ResponseObject(ResponseBody):
    """The response; what the request asked for is repeated, with the values that applied."""

    id: str
    object: Literal["response"] = "response"
    created_at: int
    status: Literal["in_progress", "completed", "incomplete", "failed"]
    output: list[OutputMessage | OutputCall | OutputReasoning]
    error: ResponseFailure | None = None
    incomplete_details: IncompleteDetails | None = None
    model: str
    usage: ResponseUsage | None = None
    instructions: str | None = None
    max_output_tokens: int | None = None
    temperature: float = 1.0
    top_p: float = 1.0
    top_logprobs: int = 0
    text: dict[str, Any]
    parallel_tool_calls: bool = True
    tool_choice: Any = "auto"
    tools: list[Any] = Field([])
    metadata: dict[str, Any]
    user: str | None = None
    store: Literal[False] = False
    background: Literal[False] = False
    previous_response_id: None = None
    truncation: Literal["disabled"] = "disabled"
    reasoning: None = None
