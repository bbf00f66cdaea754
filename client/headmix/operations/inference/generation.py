"""Owns the requests that generate text: completions and chats, whole and streamed."""

from collections.abc import Mapping
from typing import Unpack

from headmix.http.request import Request, parser_of
from headmix.types.inference.chat import ChatChunk, ChatCompletion, ChatMessage
from headmix.types.inference.completion import Completion, CompletionChunk
from headmix.types.params import ChatParams, CompletionParams, Messages, Prompt

_COMPLETIONS = "/v1/completions"
_CHATS = "/v1/chat/completions"
_COMPLETION_PARAMS = CompletionParams.__required_keys__ | CompletionParams.__optional_keys__
_CHAT_PARAMS = ChatParams.__required_keys__ | ChatParams.__optional_keys__


def complete(prompt: Prompt, *, model: str, **params: Unpack[CompletionParams]) -> Request[Completion]:
    """Continue a text. `model` is the base's name, an adapter's name, or `name@version`."""
    body = {"model": model, "prompt": prompt, **_given(params, _COMPLETION_PARAMS)}
    return Request("POST", _COMPLETIONS, parser_of(Completion), json=body)


def chat(messages: Messages, *, model: str, **params: Unpack[ChatParams]) -> Request[ChatCompletion]:
    """Answer a chat. `messages` are the turns so far, or a single text from the user."""
    body = {"model": model, "messages": turns(messages), **_given(params, _CHAT_PARAMS)}
    return Request("POST", _CHATS, parser_of(ChatCompletion), json=body)


def stream_complete(
    prompt: Prompt, *, model: str, include_usage: bool = False, **params: Unpack[CompletionParams]
) -> Request[CompletionChunk]:
    """Continue a text, chunk by chunk as it is generated.

    With `include_usage`, a final chunk without choices carries the token counts.
    """
    body = {"model": model, "prompt": prompt, **_given(params, _COMPLETION_PARAMS), **_streaming(include_usage)}
    return Request("POST", _COMPLETIONS, parser_of(CompletionChunk), json=body)


def stream_chat(
    messages: Messages, *, model: str, include_usage: bool = False, **params: Unpack[ChatParams]
) -> Request[ChatChunk]:
    """Answer a chat, chunk by chunk as it is generated.

    With `include_usage`, a final chunk without choices carries the token counts.
    """
    body = {"model": model, "messages": turns(messages), **_given(params, _CHAT_PARAMS), **_streaming(include_usage)}
    return Request("POST", _CHATS, parser_of(ChatChunk), json=body)


def _streaming(include_usage: bool) -> dict[str, object]:
    return {"stream": True, "stream_options": {"include_usage": True}} if include_usage else {"stream": True}


def _given(params: Mapping[str, object], known: frozenset[str]) -> dict[str, object]:
    """Return the parameters that have a value; as in any Python call, an unknown one is a TypeError."""
    unknown = sorted(params.keys() - known)
    if unknown:
        raise TypeError(f"unexpected keyword argument {unknown[0]!r}; the parameters are {', '.join(sorted(known))}")
    return {name: value for name, value in params.items() if value is not None}


def turns(messages: Messages) -> list[dict[str, object]]:
    """Return a chat's turns as the server takes them."""
    if isinstance(messages, str):
        return [{"role": "user", "content": messages}]
    return [turn.model_dump(exclude_none=True) if isinstance(turn, ChatMessage) else dict(turn) for turn in messages]
