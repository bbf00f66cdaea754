"""Owns the parameters of a generation request, typed once for both clients and for streaming. None means not given."""

from collections.abc import Mapping, Sequence
from typing import Required, TypedDict

from headmix.types.inference.chat import ChatMessage

Prompt = str | Sequence[str] | Sequence[int] | Sequence[Sequence[int]]
"""A text, several texts, or the same as token ids."""

Messages = str | Sequence[ChatMessage | Mapping[str, object]]
"""A chat's turns, oldest first; a plain text is one user turn."""


class ScaledAdapter(TypedDict, total=False):
    """One adapter of a request, named as in `model`; `scale` multiplies its terms and defaults to 1."""

    name: Required[str]
    scale: float


class SamplingParams(TypedDict, total=False):
    """What completions and chats share. With `split_special_tokens`, special tokens in your texts are plain text.

    With `skip_special_tokens` false, special tokens that are generated are part of the text. `truncate_prompt_tokens`
    keeps that many of a prompt's last tokens, or with -1 as many as fit.
    `response_format` and `structured_outputs` bind the answer to a form, such as a JSON schema; see "structured output"
    of the HTTP API. The terms of `adapters` are added up; `model` then names the base, or the first of them once more.
    """

    max_tokens: int | None
    max_completion_tokens: int | None
    temperature: float | None
    top_p: float | None
    top_k: int | None
    min_p: float | None
    n: int | None
    seed: int | None
    stop: str | Sequence[str] | None
    presence_penalty: float | None
    frequency_penalty: float | None
    repetition_penalty: float | None
    split_special_tokens: bool | None
    skip_special_tokens: bool | None
    truncate_prompt_tokens: int | None
    logit_bias: Mapping[str, float] | None
    min_tokens: int | None
    bad_words: Sequence[str] | None
    response_format: Mapping[str, object] | None
    structured_outputs: Mapping[str, object] | None
    adapters: Sequence[ScaledAdapter] | None
    user: str | None


class CompletionParams(SamplingParams, total=False):
    """`logprobs` is how many alternatives per token to return; `echo` returns the prompt before the text.

    Of `best_of` completions per prompt, the `n` most probable are returned. `suffix` is the text behind the completion,
    on bases that were trained to fill in.
    """

    logprobs: int | None
    echo: bool | None
    best_of: int | None
    suffix: str | None


class ChatParams(SamplingParams, total=False):
    """`logprobs` requests the chosen tokens' log probabilities, `top_logprobs` that many alternatives.

    `tools` are functions that the model may call, in OpenAI's shape; `tool_choice` is `auto`, `none`, `required`, or
    names one of them.
    With `continue_final_message`, the answer continues the last message; with `add_generation_prompt` false, the prompt
    ends with it. `chat_template_kwargs` are variables of the base's chat template, such as `enable_thinking`.
    """

    logprobs: bool | None
    top_logprobs: int | None
    tools: Sequence[Mapping[str, object]] | None
    tool_choice: str | Mapping[str, object] | None
    parallel_tool_calls: bool | None
    continue_final_message: bool | None
    add_generation_prompt: bool | None
    chat_template_kwargs: Mapping[str, object] | None
