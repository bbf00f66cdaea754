"""Bounds on the content of one request: messages, texts, completions, metadata.

They hold wherever a body is read: on the event loop after it was validated, in a worker before it is handed back, so
that a worker never returns anything large.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from headmix_server.api.schemas.body import ModelBody, RequestBody
from headmix_server.api.schemas.chat import ChatRequest
from headmix_server.api.schemas.completions import CompletionRequest
from headmix_server.api.schemas.generation import SamplingBody
from headmix_server.api.schemas.messages import ChatMessage
from headmix_server.api.schemas.response_input import parts_of
from headmix_server.api.schemas.responses import ResponsesRequest
from headmix_server.api.schemas.tokens import TokenizeRequest
from headmix_server.core.errors import InvalidRequest
from headmix_server.core.settings.settings import Settings


@dataclass(frozen=True, slots=True)
class Bounds:
    """The settings of the same names; `metadata_bytes` counts bytes as JSON."""

    messages: int
    inputs: int
    choices: int
    metadata_bytes: int

    def check(self, body: RequestBody) -> None:
        """Refuse a body that exceeds a bound.

        Raises:
            InvalidRequest: with the parameter and its bound.
        """
        if isinstance(body, SamplingBody):
            self._check_size(body.metadata, "metadata")
            self._check_size(body.prompt_cache_options, "prompt_cache_options")
        if isinstance(body, ChatRequest | TokenizeRequest):
            self._check_messages(body.messages or ())
            self._check_size(body.chat_template_kwargs, "chat_template_kwargs")
        if isinstance(body, ResponsesRequest):
            self._check_response(body)
        if isinstance(body, ModelBody):
            is_best = isinstance(body, CompletionRequest) and body.best_of is not None
            check_choices(body.num_choices, self.choices, param="best_of" if is_best else "n")
            if body.num_inputs is not None:
                check_inputs(body.num_inputs, self.inputs, body.inputs_param)

    def check_unread(self, content: object, kind: type[RequestBody]) -> None:
        """Refuse JSON for a body of this kind that has too many messages, before any message is validated.

        Raises:
            InvalidRequest: as `check`.
        """
        name = "input" if issubclass(kind, ResponsesRequest) else "messages"
        messages = content.get(name) if isinstance(content, dict) else None
        if isinstance(messages, list):
            contents = (one.get("content", one.get("output")) for one in messages if isinstance(one, dict))
            self._check_number(len(messages), contents, name)

    def _check_messages(self, messages: Sequence[ChatMessage]) -> None:
        self._check_number(len(messages), (message.content for message in messages), "messages")

    def _check_response(self, body: ResponsesRequest) -> None:
        self._check_size(body.metadata, "metadata")
        self._check_size(body.prompt_cache_options, "prompt_cache_options")
        if not isinstance(body.input, str):
            self._check_number(len(body.input), map(parts_of, body.input), "input")

    def _check_number(self, messages: int, contents: Iterable[object], param: str) -> None:
        number = messages + sum(len(content) for content in contents if isinstance(content, list))
        if number > self.messages:
            message = f"{number} messages and message parts; a request may have at most {self.messages}."
            raise InvalidRequest(message, param=param)

    def _check_size(self, value: Mapping[str, object] | None, param: str) -> None:
        size = 0 if value is None else len(msgspec.json.encode(value))
        if size > self.metadata_bytes:
            message = f"{param} is {size} bytes as JSON; a request may have at most {self.metadata_bytes}."
            raise InvalidRequest(message, param=param)


def bounds_of(settings: Settings) -> Bounds:
    """Return the bounds that are set."""
    return Bounds(
        messages=settings.max_messages,
        inputs=settings.max_inputs,
        choices=settings.max_choices,
        metadata_bytes=settings.max_metadata_bytes,
    )


def check_inputs(inputs: int, limit: int, param: str) -> None:
    """Refuse an empty list of texts, and more texts than one request may have.

    Raises:
        InvalidRequest: there are none, or too many.
    """
    if inputs == 0:
        raise InvalidRequest("The input is empty.", param=param)
    if inputs > limit:
        raise InvalidRequest(f"{inputs} texts; a request may have at most {limit}.", param=param)


def check_choices(choices: int, limit: int, *, param: str = "n") -> None:
    """Refuse more completions than one request may ask for.

    Raises:
        InvalidRequest: too many.
    """
    if choices > limit:
        raise InvalidRequest(f"{choices} completions were requested; a request may have at most {limit}.", param=param)
