"""Chat messages to prompt text: a jinja template in a sandbox, with the conventions transformers documents.

Owns the environment a template sees. It neither tokenizes nor validates messages: if a template refuses them, its
reason is passed to the client. Compiling a template evaluates nothing of it, so it takes time and memory in proportion
to its length; rendering one may take any amount of both.
"""

import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TypedDict, Unpack

import jinja2
from jinja2.compiler import CodeGenerator, Frame
from jinja2.ext import Extension
from jinja2.nodes import CallBlock, EvalContextModifier, Impossible, Node, TemplateData
from jinja2.parser import Parser
from jinja2.runtime import Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment

from headmix_adapters.text.final_message import FinalMessageError, with_end_marked
from headmix_adapters.text.template_variables import variables_read

Message = Mapping[str, object]
Tool = Mapping[str, object]
"""A function that the model may call, in OpenAI's shape: `{"type": "function", "function": {"name", ...}}`."""

_PROBE = "headmix_probe_tool"
_UNCOMPILED = (jinja2.TemplateError, SyntaxError, ValueError, ArithmeticError, RecursionError)
_REFUSED = (jinja2.TemplateError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError, RuntimeError)
"""What a template may raise when it is compiled, and when it is rendered: Python's own limits and errors among them."""
_HALF = re.compile("[\ud800-\udfff]")
"""Half of a surrogate pair, which JSON can express and no tokenizer reads: arguments of a call may hold one."""
_OWN = frozenset({"messages", "tools", "documents", "add_generation_prompt"})
"""The variables that `render` sets."""

_REASONING = ("reasoning_content", "thinking", "reasoning")


class TemplateOptions(TypedDict, total=False):
    """How a conversation is rendered.

    `add_generation_prompt`, true by default: the prompt ends with the beginning of an assistant's turn.
    `continue_final_message`: instead, it ends with the last message's content, within that turn. `variables` are the
    template's own, such as `enable_thinking`.
    """

    add_generation_prompt: bool
    continue_final_message: bool
    variables: Mapping[str, object]


class ChatTemplateError(ValueError):
    """The template refused the messages, or is not valid jinja."""


class ChatTemplate:
    """One compiled template, with the special tokens it may refer to.

    `tool_source` is rendered instead of `source` where there are tools; some bases have two templates.
    `response_template` is what a base declares about how its answers are parsed, as in transformers.
    """

    def __init__(
        self,
        source: str,
        special_tokens: Mapping[str, str],
        *,
        tool_source: str | None = None,
        response_template: Mapping[str, object] | None = None,
    ) -> None:
        self._template = _compiled(source)
        self._tool_template = self._template if tool_source is None else _compiled(tool_source)
        self._special_tokens = dict(special_tokens)
        self.source = source
        self.tool_source = source if tool_source is None else tool_source
        self.response_template = response_template

    @property
    def fixed(self) -> frozenset[str]:
        """The names of the variables that have their values from the base and the conversation."""
        return _OWN | self._special_tokens.keys()

    @cached_property
    def variables(self) -> frozenset[str]:
        """The names of the other variables that it reads."""
        environment = _environment()
        both = (variables_read(environment, source) for source in {self.source, self.tool_source})
        return frozenset[str]().union(*both) - self.fixed

    @cached_property
    def takes_tools(self) -> bool:
        """Whether the template shows tools to the model: the name of one appears in the prompt."""
        function = {"name": _PROBE, "description": "x", "parameters": {"type": "object", "properties": {}}}
        try:
            question = [{"role": "user", "content": "x"}]
            return _PROBE in self.render(question, tools=[{"type": "function", "function": function}])
        except ChatTemplateError:
            return False

    def render(
        self, messages: Sequence[Message], *, tools: Sequence[Tool] | None = None, **options: Unpack[TemplateOptions]
    ) -> str:
        """Return a conversation's prompt; templates see OpenAI's role `developer` as `system`.

        A call's `arguments` may be the JSON text that clients send: templates see the object.

        Raises:
            ChatTemplateError: the template raised, for example because roles do not alternate; or the arguments of a
                call are not a JSON object; or the last message cannot be continued.
        """
        if not options.get("continue_final_message"):
            return self._render(messages, tools, options)
        try:
            marked, end = with_end_marked(messages)
            return end.cut(self._render(marked, tools, options))
        except FinalMessageError as error:
            raise ChatTemplateError(str(error)) from error

    def _render(self, messages: Sequence[Message], tools: Sequence[Tool] | None, options: TemplateOptions) -> str:
        present = [_as_templates_expect(message) for message in messages]
        template = self._tool_template if tools else self._template
        own = {
            "messages": present,
            "tools": list(tools) if tools else None,
            "documents": None,
            "add_generation_prompt": options.get("add_generation_prompt", True),
        }
        try:
            rendered = template.render({**options.get("variables", {}), **self._special_tokens, **own})
            return _HALF.sub("\ufffd", rendered)
        except RecursionError:
            raise ChatTemplateError("the messages or tools are nested too deeply") from None
        except _REFUSED as error:
            raise ChatTemplateError(str(error)) from error


def load_chat_template(folder: Path, special_tokens: Mapping[str, str]) -> ChatTemplate | None:
    """Read `chat_template.jinja`, else the `chat_template` of `tokenizer_config.json`; None if there is neither.

    A template named `tool_use` is for conversations with tools, as in transformers.

    Raises:
        ChatTemplateError: the template is not valid jinja.
    """
    config = folder / "tokenizer_config.json"
    fields = json.loads(config.read_text(encoding="utf-8")) if config.is_file() else {}
    source, tool_source = _sources(folder, fields.get("chat_template"))
    if source is None:
        return None
    response = fields.get("response_template")
    return ChatTemplate(
        source,
        special_tokens,
        tool_source=tool_source,
        response_template=response if isinstance(response, Mapping) else None,
    )


def _sources(folder: Path, declared: object) -> tuple[str | None, str | None]:
    """Return the template and the one for tools, if there is one."""
    file, for_tools = folder / "chat_template.jinja", folder / "additional_chat_templates" / "tool_use.jinja"
    if file.is_file():
        tool_source = for_tools.read_text(encoding="utf-8") if for_tools.is_file() else None
        return file.read_text(encoding="utf-8"), tool_source
    if isinstance(declared, list):
        named = {entry["name"]: entry["template"] for entry in declared}
        return named.get("default"), named.get("tool_use")
    return (declared, None) if isinstance(declared, str) else (None, None)


def _compiled(source: str) -> jinja2.Template:
    try:
        return _environment().from_string(source)
    except _UNCOMPILED as error:
        raise ChatTemplateError(f"the chat template is not valid: {error}") from error


def _as_templates_expect(message: Message) -> dict[str, object]:
    present = {key: value for key, value in message.items() if value is not None}
    if present.get("role") == "developer":
        present["role"] = "system"
    calls = present.get("tool_calls")
    if isinstance(calls, Sequence) and not isinstance(calls, str):
        present["tool_calls"] = [_with_arguments(call) for call in calls]
    return _with_reasoning(present)


def _with_reasoning(present: dict[str, object]) -> dict[str, object]:
    """Return a message whose reasoning has all its usual names, as in transformers."""
    reasoning = next((present[name] for name in _REASONING if name in present), None)
    return present if reasoning is None else {**dict.fromkeys(_REASONING, reasoning), **present}


def _with_arguments(call: object) -> object:
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(call, Mapping) or not isinstance(function, Mapping):
        return call
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        arguments = _parsed(arguments)
    return {**call, "function": {**function, "arguments": arguments}}


def _parsed(arguments: str) -> Mapping[str, object]:
    try:
        parsed = json.loads(arguments) if arguments.strip() else {}
    except (ValueError, RecursionError):
        parsed = None
    if not isinstance(parsed, dict):
        raise ChatTemplateError("the arguments of a tool call are not a JSON object")
    return parsed


def template_fault(source: str) -> str | None:
    """Return why a template cannot be compiled, or None."""
    try:
        ChatTemplate(source, {})
    except ChatTemplateError as error:
        return str(error)
    return None


class _Generation(Extension):
    """`{% generation %}` marks the assistant's text for training; here its body is rendered unchanged."""

    tags = {"generation"}  # noqa: RUF012 - jinja2 declares the attribute as a plain set

    def parse(self, parser: Parser) -> Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return CallBlock(self.call_method("render_body"), [], [], body).set_lineno(line)

    def render_body(self, caller: Macro) -> str:
        return str(caller())


class _Unfolded(CodeGenerator):
    """Evaluates no constant expressions: one as short as `'a' * 10**12` would take all memory."""

    def visit_EvalContextModifier(self, node: EvalContextModifier, frame: Frame) -> None:  # noqa: N802 - jinja2's name
        self.fail("autoescape is not available", node.lineno)

    def _output_child_to_const(self, node: Node, frame: Frame, finalize: object) -> str:
        if isinstance(node, TemplateData):
            return node.data
        raise Impossible


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, "jinja2.ext.loopcontrols"], optimized=False
    )
    environment.code_generator_class = _Unfolded
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    return environment


def _to_json(
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Return plain JSON, which templates expect; jinja's own filter escapes HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: str) -> None:
    raise jinja2.TemplateError(message)


def _strftime_now(pattern: str) -> str:
    return datetime.now().astimezone().strftime(pattern)
