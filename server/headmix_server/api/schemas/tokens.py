"""Bodies of /tokenize and /detokenize, in vLLM's shape."""

from typing import Annotated, ClassVar

from pydantic import Field

from headmix_server.api.schemas.body import ModelBody, ResponseBody
from headmix_server.api.schemas.chat import ChatRequest
from headmix_server.api.schemas.common import Text
from headmix_server.api.schemas.json_object import JsonObject
from headmix_server.api.schemas.messages import ChatMessage
from headmix_server.api.schemas.prompt_input import TokenIds
from headmix_server.api.schemas.tools import Tools

_OF_CHATS = ("tools", "add_generation_prompt", "continue_final_message", "chat_template_kwargs")


class TokenizeRequest(ModelBody):
    """Tokenize a text as it is, or a chat: the prompt that the base's template makes of it."""

    drops_null: ClassVar[bool] = True

    prompt: Text | None = None
    messages: Annotated[list[ChatMessage], Field(min_length=1, fail_fast=True)] | None = None
    tools: Tools | None = Field(None, description="Functions that the model may call, which the template shows it.")
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    chat_template_kwargs: JsonObject | None = None
    add_special_tokens: bool | None = Field(
        None, description="Whether to add the base's special tokens around `prompt`; true by default."
    )
    return_token_strings: bool | None = None
    split_special_tokens: bool | None = None

    @property
    def of_chats(self) -> list[str]:
        """The parameters it has that only mean something with messages."""
        return [name for name in _OF_CHATS if getattr(self, name) is not None]

    @property
    def chat(self) -> ChatRequest:
        """The chat whose prompt is asked for."""
        shared = {name: getattr(self, name) for name in (*_OF_CHATS, "split_special_tokens")}
        return ChatRequest.model_construct(model=self.model, messages=self.messages or [], **shared)


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
