"""How a chat template has its model call tools, and which parts of that are special tokens of a vocabulary."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from headmix_server.text.tokenizer import Tokenizer
from headmix_server.text.tools.declared import DeclaredFormat
from headmix_server.text.tools.formats import THOUGHTS, ToolFormat, format_of_response, format_of_template

_PROMPT_END = 256
"""Tokens at the end of a prompt that may belong to the answer, such as the beginning of its reasoning."""


class Template(Protocol):
    """What is read of a chat template."""

    @property
    def tool_source(self) -> str:
        """See `ChatTemplate`."""
        ...

    @property
    def response_template(self) -> Mapping[str, object] | None:
        """See `ChatTemplate`."""
        ...


def format_of(template: Template) -> ToolFormat | DeclaredFormat | None:
    """Return the format in which a template has its model call tools; None if it is not known."""
    declared = template.response_template
    if declared is not None:
        return format_of_response(declared) or DeclaredFormat(declared)
    return format_of_template(template.tool_source)


def special_markers(tokenizer: Tokenizer, found: ToolFormat | DeclaredFormat) -> Mapping[str, int]:
    """Return which markers are special tokens: these do not show in a text, and only their ids stand for them."""
    own = found.markers if isinstance(found, ToolFormat) else found.markers(tokenizer.reader.whole_tokens())
    markers = (*own, *(marker for pair in THOUGHTS for marker in pair))
    ids = {marker: tokenizer.token_id(marker) for marker in markers}
    return {marker: number for marker, number in ids.items() if number is not None and tokenizer.is_hidden(number)}


def end_of_prompt(tokenizer: Tokenizer, prompt: Sequence[int]) -> str:
    """Return the end of a prompt, special tokens included."""
    return tokenizer.decode(prompt[-_PROMPT_END:], skip_special_tokens=False)


def open_thought(prompt_end: str) -> str | None:
    """Return what ends the reasoning that a prompt begins, if it does."""
    text = prompt_end.rstrip()
    return next((ending for opening, ending in THOUGHTS if text.endswith(opening)), None)
