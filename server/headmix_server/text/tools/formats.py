"""How families of models write calls of tools, and which of these formats a chat template speaks.

A format is a few literals around a name and its arguments: a grammar is written of them, and the reader looks for them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

Shape = Literal["object", "named"]
"""`object`: a JSON object with the name and the arguments; `named`: the name, a marker, the arguments."""

THOUGHTS = (("<think>", "</think>"), ("[THINK]", "[/THINK]"))
"""What stands around a model's reasoning."""


@dataclass(frozen=True, slots=True)
class ToolFormat:
    """The literals of a format; those that are special tokens of a vocabulary are generated as such.

    A message's calls are `opening`, the calls with `between` between them, `closing`; a call is `before`, the name,
    `middle`, the arguments, `after`. Without `between`, a message has one call. `trigger` begins the first call, so a
    free text must not contain it; None if a call is recognised only at the beginning of a message. `markers` are all
    literals that may be special tokens. Ids of calls have `id_length` characters where the template insists.
    """

    name: str
    shape: Shape
    trigger: str | None
    opening: str
    before: str
    middle: str
    after: str
    between: str | None
    closing: str
    markers: tuple[str, ...]
    id_length: int | None = None


HERMES = ToolFormat(
    name="Hermes",
    shape="object",
    trigger="<tool_call>",
    opening="",
    before='<tool_call>\n{"name": "',
    middle='", "arguments": ',
    after="}\n</tool_call>",
    between="\n",
    closing="",
    markers=("<tool_call>", "</tool_call>"),
)
"""Hermes, Qwen 2.5 and 3: `<tool_call>{"name": ..., "arguments": {...}}</tool_call>`."""

LLAMA = ToolFormat(
    name="Llama 3",
    shape="object",
    trigger=None,
    opening="",
    before='{"name": "',
    middle='", "parameters": ',
    after="}",
    between=None,
    closing="",
    markers=("<|python_tag|>",),
)
"""Llama 3: `{"name": ..., "parameters": {...}}` as the whole message."""

MISTRAL_LIST = ToolFormat(
    name="Mistral (list)",
    shape="object",
    trigger="[TOOL_CALLS]",
    opening="[TOOL_CALLS] [",
    before='{"name": "',
    middle='", "arguments": ',
    after="}",
    between=", ",
    closing="]",
    markers=("[TOOL_CALLS]",),
    id_length=9,
)
"""Mistral up to version 7 of its tokenizer: `[TOOL_CALLS] [{"name": ..., "arguments": {...}}, ...]`."""

MISTRAL = ToolFormat(
    name="Mistral",
    shape="named",
    trigger="[TOOL_CALLS]",
    opening="",
    before="[TOOL_CALLS]",
    middle="[ARGS]",
    after="",
    between="",
    closing="",
    markers=("[TOOL_CALLS]", "[ARGS]", "[CALL_ID]"),
    id_length=9,
)
"""Mistral from version 11 on: `[TOOL_CALLS]name[ARGS]{...}`."""

FORMATS = (HERMES, LLAMA, MISTRAL_LIST, MISTRAL)


def format_of_template(source: str) -> ToolFormat | None:
    """Return the format in which a chat template has its model call tools; None if it is none of these.

    A template writes the calls of earlier turns as the model is to write its own, so its source has the literals.
    """
    if "[TOOL_CALLS]" in source:
        spaced = MISTRAL_LIST if "[TOOL_CALLS] [" in source else replace(MISTRAL_LIST, opening="[TOOL_CALLS][")
        return MISTRAL if "[ARGS]" in source else spaced
    if "<tool_call>" in source:
        return None if "<function=" in source else HERMES
    if '"parameters": ' in source and '"name": ' in source:
        return LLAMA
    return None


def format_of_response(template: Mapping[str, object]) -> ToolFormat | None:
    """Return the format that a `response_template` describes, if it is one of these."""
    fields = template.get("fields")
    calls = fields.get("tool_calls") if isinstance(fields, Mapping) else None
    if not isinstance(calls, Mapping) or calls.get("content") != "json":
        return None
    anchor = str(calls.get("open") or calls.get("open_pattern"))
    if "<tool_call>" in anchor and calls.get("close") == "</tool_call>":
        return HERMES
    return MISTRAL_LIST if "TOOL_CALLS" in anchor and "ARGS" not in anchor else None
