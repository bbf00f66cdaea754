"""Bodies of /tokenize and /detokenize, in vLLM's shape."""

from typing import Annotated, ClassVar

from pydantic import Field

from headmix_server.api.schemas.body import ModelBody, ResponseBody
from headmix_server.api.schemas.common import Text
from headmix_server.api.schemas.messages import ChatMessage
from headmix_server.api.schemas.neutral import TOKENIZE, Neutral
from headmix_server.api.schemas.prompt_input import TokenIds
from headmix_server.api.schemas.tools import Tools


class TokenizeRequest(ModelBody):
    """Tokenize a text as it is, or a conversation through the base's chat template."""

    neutral: ClassVar[Neutral] = TOKENIZE
    drops_null: ClassVar[bool] = True

    prompt: Text | None = None
    messages: Annotated[list[ChatMessage], Field(min_length=1, fail_fast=True)] | None = None
    tools: Tools | None = Field(None, description="Functions that the model may call, which the template shows it.")
    add_special_tokens: bool | None = Field(
        None, description="Whether to add the base's special tokens around `prompt`; true by default."
    )
    return_token_strings: bool | None = None
    split_special_tokens: bool | None = None


class TokenizeResponse(ResponseBody):
    """The tokens; `max_model_len` is the context's length. `token_strs` are tokens as the vocabulary spells them."""

    count: int
    max_model_len: int
    tokens: list[int]
    token_strs: list[str] | None = None


class DetokenizeRequest(ModelBody):
    """Turn token ids into text."""

    drops_null: ClassVar[bool] = True

    tokens: TokenIds


class DetokenizeResponse(ResponseBody):
    """The text, special tokens included."""

    prompt: str
