"""Chat messages to prompt text: the base's jinja template in a sandbox, with the conventions transformers documents.

Owns the environment a template sees. It neither tokenizes nor validates messages: if a template refuses them, its
reason is passed to the client.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

import jinja2
from jinja2.ext import Extension
from jinja2.nodes import CallBlock, Node
from jinja2.parser import Parser
from jinja2.runtime import Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment

Message = Mapping[str, object]


class ChatTemplateError(ValueError):
    """The template refused the messages, or is not valid jinja."""


class ChatTemplate:
    """One compiled template, with the special tokens it may refer to."""

    def __init__(self, source: str, special_tokens: Mapping[str, str]) -> None:
        try:
            self._template = _environment().from_string(source)
        except jinja2.TemplateError as error:
            raise ChatTemplateError(f"the base's chat template is not valid: {error}") from error
        self._special_tokens = dict(special_tokens)

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool = True) -> str:
        """Return a conversation's prompt; templates see OpenAI's role `developer` as `system`.

        Raises:
            ChatTemplateError: the template raised, for example because roles do not alternate.
        """
        present = [{key: value for key, value in message.items() if value is not None} for message in messages]
        for message in present:
            if message.get("role") == "developer":
                message["role"] = "system"
        try:
            return self._template.render(
                **self._special_tokens,
                messages=present,
                tools=None,
                documents=None,
                add_generation_prompt=add_generation_prompt,
            )
        except (jinja2.TemplateError, TypeError, ValueError, ArithmeticError, LookupError) as error:
            raise ChatTemplateError(str(error)) from error


def load_chat_template(folder: Path, special_tokens: Mapping[str, str]) -> ChatTemplate | None:
    """Read `chat_template.jinja`, else the `chat_template` of `tokenizer_config.json`; None if there is neither.

    Raises:
        ChatTemplateError: the template is not valid jinja.
    """
    file = folder / "chat_template.jinja"
    if file.is_file():
        return ChatTemplate(file.read_text(encoding="utf-8"), special_tokens)
    config = folder / "tokenizer_config.json"
    declared = json.loads(config.read_text(encoding="utf-8")).get("chat_template") if config.is_file() else None
    if isinstance(declared, list):
        declared = {entry["name"]: entry["template"] for entry in declared}.get("default")
    return ChatTemplate(declared, special_tokens) if isinstance(declared, str) else None


class _Generation(Extension):
    """`{% generation %}` marks the assistant's text for training; here its body is rendered unchanged."""

    tags = {"generation"}  # noqa: RUF012 - jinja2 declares the attribute as a plain set

    def parse(self, parser: Parser) -> Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return CallBlock(self.call_method("render_body"), [], [], body).set_lineno(line)

    def render_body(self, caller: Macro) -> str:
        return str(caller())


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, "jinja2.ext.loopcontrols"]
    )
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
