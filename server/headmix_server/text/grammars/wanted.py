"""What a client may want of an answer's form, as plain values that travel to a worker."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from headmix_server.text.tools.formats import ToolFormat

WHITE_SPACE = r"[\x20\x0A\x0D\x09]{1,8}"
"""Between the parts of a JSON text. Bounded, because small models may never stop writing it (vllm#38696)."""


@dataclass(frozen=True, slots=True)
class JsonText:
    """A JSON text that fits a schema.

    `white_space` is a regular expression for what stands between its parts, None for nothing at all. `closed`: an
    object has no properties but those its schema names.
    """

    schema: Mapping[str, Any] | bool
    white_space: str | None = WHITE_SPACE
    closed: bool = False


@dataclass(frozen=True, slots=True)
class Expression:
    """A text that the regular expression matches from beginning to end."""

    regex: str


@dataclass(frozen=True, slots=True)
class Choice:
    """One of these texts."""

    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Language:
    """A text of a grammar written in Lark, or in llama.cpp's GBNF."""

    grammar: str


@dataclass(frozen=True, slots=True)
class Structure:
    """After `begin` a JSON text that fits the schema, then `end`."""

    begin: str
    schema: Mapping[str, Any] | bool
    end: str


@dataclass(frozen=True, slots=True)
class TaggedText:
    """Free text in which whatever begins with a trigger is one of the structures."""

    structures: tuple[Structure, ...]
    triggers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ToolSchema:
    """A tool's name, and the schema of its arguments."""

    name: str
    schema: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ToolCalls:
    """Calls of tools in a model's own format; or, unless they are `required`, a text.

    That text is free, or fits `otherwise`. Without `several`, there is one call. `tokens` are the ids of those of the
    format's markers that are special tokens.
    """

    format: ToolFormat
    tools: tuple[ToolSchema, ...]
    required: bool
    several: bool
    tokens: tuple[tuple[str, int], ...] = ()
    otherwise: JsonText | None = None


Wanted = JsonText | Expression | Choice | Language | TaggedText | ToolCalls
