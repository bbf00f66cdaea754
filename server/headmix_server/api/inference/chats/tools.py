"""The tools that a chat offers its model: in which format it calls them, what binds its answer, and what reads it.

The format is that of the chat template of the model asked. The engine gets a grammar and knows nothing of tools.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any

from starlette.concurrency import run_in_threadpool

from headmix_adapters.text.chat_template import ChatTemplate
from headmix_server.api.inference.prompts import Vocabulary
from headmix_server.api.inference.steering import Form
from headmix_server.api.schemas.body import shown
from headmix_server.api.schemas.chat import ChatRequest
from headmix_server.api.schemas.messages import ChatMessage
from headmix_server.api.schemas.tools import NamedTool, Tool
from headmix_server.core.errors import InvalidRequest
from headmix_server.text.adapter_template import AdapterTemplate
from headmix_server.text.grammars.wanted import JsonText, ToolCalls, ToolSchema
from headmix_server.text.tokenizer import Tokenizer
from headmix_server.text.tools.declared import DeclaredFormat, ResponseTemplateError, load
from headmix_server.text.tools.formats import FORMATS, ToolFormat
from headmix_server.text.tools.parts import AnswerReader
from headmix_server.text.tools.reader import ToolReader
from headmix_server.text.tools.recognise import end_of_prompt, format_of, open_thought, special_markers

_ANY_ARGUMENTS: Mapping[str, Any] = {"type": "object", "additionalProperties": True}
_NO_ARGUMENTS: Mapping[str, Any] = {"type": "object", "properties": {}}
_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, slots=True)
class ToolUse:
    """The tools of one request. `callable` are those that may be called now; `several`, whether more than once.

    A conversation in which tools were called may go on without any. `tokens` are the ids of those of the format's
    markers that are special tokens of the model.
    """

    format: ToolFormat | DeclaredFormat
    tools: tuple[Tool, ...]
    callable: tuple[Tool, ...]
    required: bool
    several: bool
    tokens: Mapping[str, int]

    @property
    def is_bound(self) -> bool:
        """Whether the request asks for more than the model's own choice."""
        return bool(self.callable) and (
            self.required or not self.several or any(tool.function.strict for tool in self.callable)
        )

    @property
    def shown(self) -> list[dict[str, object]]:
        """The tools as templates see them."""
        return [{"type": "function", "function": _function(tool)} for tool in self.tools]

    @property
    def markers(self) -> Mapping[int, str]:
        """The special tokens that are part of an answer's text, since its reader looks for them."""
        return MappingProxyType({number: marker for marker, number in self.tokens.items()} if self.callable else {})

    @property
    def id_length(self) -> int | None:
        """How many characters a call's id has, where the template insists."""
        return self.format.id_length if isinstance(self.format, ToolFormat) else None

    def form(self, text: Form | None) -> Form | None:
        """Return what the answer is bound to; `text` is what the request wants of an answer without calls.

        Raises:
            InvalidRequest: the two cannot be had together.
        """
        if not self.callable:
            return text
        otherwise = None if self.required or text is None else text.wanted
        if otherwise is not None and not isinstance(otherwise, JsonText):
            param = None if text is None else text.param
            raise InvalidRequest(f"{param} and tools both say what form the answer has; one is taken.", param=param)
        if otherwise is None and not self.is_bound:
            return None
        if isinstance(self.format, DeclaredFormat):
            raise InvalidRequest(
                "The model's tool calls are in a format of its own, which cannot be enforced: only tool_choice auto "
                "and none are taken, without strict, parallel_tool_calls false and response_format.",
                param="tool_choice" if self.required else "tools",
            )
        wanted = ToolCalls(
            format=self.format,
            tools=tuple(ToolSchema(tool.function.name, self._schema(tool)) for tool in self.callable),
            required=self.required,
            several=self.several,
            tokens=tuple((marker, self.tokens[marker]) for marker in self.format.markers if marker in self.tokens),
            otherwise=otherwise,
        )
        return Form(wanted, "tools" if text is None or self.required else text.param)

    def _schema(self, tool: Tool) -> Mapping[str, Any]:
        """Return what binds a tool's arguments: where calls are the model's choice, only `strict` ones are bound."""
        if self.required or tool.function.strict:
            return tool.function.parameters or {}
        return _ANY_ARGUMENTS

    def readers(self, tokenizer: Tokenizer, prompt: Sequence[int], *, bound: bool) -> Callable[[], AnswerReader]:
        """Return what makes the reader of each choice; `bound`, whether a grammar vouches for its calls.

        Raises:
            InvalidRequest: the base's `response_template` is faulty.
        """
        end = end_of_prompt(tokenizer, prompt)
        if isinstance(self.format, ToolFormat):
            known = frozenset(tool.function.name for tool in self.callable)
            thought_end = None if self.required else open_thought(end)
            return partial(ToolReader, self.format, known, eager=bound, thought_end=thought_end)
        make = partial(self.format.reader, end, self.shown)
        try:
            make()
        except ResponseTemplateError as error:
            raise InvalidRequest(f"The base's response_template is faulty: {error}", param="tools") from error
        return make

    def turns(self, messages: Iterable[ChatMessage]) -> list[dict[str, object]]:
        """Return messages as templates see them."""
        length = self.id_length
        turns = [message.turn for message in messages]
        return turns if length is None else [_with_short_ids(turn, length) for turn in turns]


async def tool_use_of(
    template: ChatTemplate | AdapterTemplate, whose: str, vocabulary: Vocabulary, body: ChatRequest
) -> ToolUse | None:
    """Return the tools that a chat offers or has called, None if there are none; `whose` names the template.

    Raises:
        InvalidRequest: the choice names no tool of the request; the model cannot call tools, or not in a known format.
    """
    tools, choice = tuple(body.tools or ()), body.tool_choice
    callable_ = _callable(tools, choice)
    has_called = any(message.tool_calls or message.role == "tool" for message in body.messages)
    if not callable_ and not has_called:
        return None
    param = "tools" if callable_ else "messages"
    if not (await vocabulary.facts_of(template, param)).takes_tools:
        raise InvalidRequest(
            f"The chat template of {whose} has no tools: it does not show them to the model. Leave out the tools, or "
            "ask a model whose template has them.",
            param=param,
        )
    found = format_of(template)
    if found is None:
        known = ", ".join(format_.name for format_ in FORMATS)
        raise InvalidRequest(
            f"The chat template of {whose} has its model call tools in a format that this server does not know; it "
            f"knows those of {known}, and what a base's response_template declares.",
            param=param,
        )
    if isinstance(found, DeclaredFormat):
        await run_in_threadpool(load)
    return ToolUse(
        format=found,
        tools=tools if callable_ else (),
        callable=callable_,
        required=choice == "required" or isinstance(choice, NamedTool),
        several=body.parallel_tool_calls is not False,
        tokens=special_markers(vocabulary.tokenizer, found),
    )


def _callable(tools: tuple[Tool, ...], choice: str | NamedTool | None) -> tuple[Tool, ...]:
    if choice == "none":
        return ()
    if not tools and choice not in (None, "auto"):
        raise InvalidRequest("tool_choice needs tools to choose from.", param="tool_choice")
    if not isinstance(choice, NamedTool):
        return tools
    named = tuple(tool for tool in tools if tool.function.name == choice.function.name)
    if not named:
        name = shown(choice.function.name)
        raise InvalidRequest(f"tool_choice names {name}, which is none of the tools.", param="tool_choice")
    return named


def _function(tool: Tool) -> dict[str, object]:
    function = tool.function
    described = {} if function.description is None else {"description": function.description}
    return {"name": function.name, **described, "parameters": function.parameters or dict(_NO_ARGUMENTS)}


def _with_short_ids(turn: Mapping[str, object], length: int) -> dict[str, object]:
    changed = dict(turn)
    if isinstance(called := turn.get("tool_call_id"), str):
        changed["tool_call_id"] = _short_id(called, length)
    if isinstance(calls := turn.get("tool_calls"), list):
        changed["tool_calls"] = [{**call, "id": _short_id(call["id"], length)} for call in calls]
    return changed


def _short_id(given: str, length: int) -> str:
    """Return an id as the template insists on; always the same for the same id."""
    if len(given) == length and given.isascii() and given.isalnum():
        return given
    return "".join(_DIGITS[byte % len(_DIGITS)] for byte in hashlib.sha256(given.encode()).digest()[:length])
