"""Turns functions, classes and their docstrings into Markdown. Docstrings already are Markdown, but for `Raises:`."""

import inspect
import re
from collections.abc import Callable
from typing import Any, Unpack, get_args, get_origin

_MODULES = re.compile(r"\b(?:[a-z_][a-z_0-9]*\.)+(?=\w)")
_SECTION = re.compile(r"^(Raises|Args|Returns):$", re.MULTILINE)
_ENTRY = re.compile(r"^    (?=\S)", re.MULTILINE)


def docstring(documented: object) -> str:
    """Return an object's docstring as Markdown; a `Raises:` block becomes a list."""
    text = inspect.cleandoc(getattr(documented, "__doc__", None) or "")
    before, *sections = _SECTION.split(text)
    parts = [before.rstrip()]
    for title, block in zip(sections[::2], sections[1::2], strict=True):
        parts.append(f"\n\n{title}:\n\n" + _ENTRY.sub("* ", block.strip("\n")).rstrip())
    return "".join(parts) + "\n\n"


def signature(name: str, function: Callable[..., object], returns: str | None = None) -> str:
    """Return a function's signature as a code block: on one line if it fits, else with one parameter per line."""
    found = inspect.signature(function)
    parameters = [item for item in found.parameters.values() if item.name != "self"]
    result = returns if returns is not None else annotation(found.return_annotation)
    tail = f" -> {result}" if result else ""
    shown = _parameters(parameters)
    line = f"{name}({', '.join(shown)}){tail}"
    if len(line) > 96:
        line = f"{name}(\n" + "".join(f"    {text},\n" for text in shown) + f"){tail}"
    return f"```python\n{line}\n```\n\n"


def _parameters(parameters: list[inspect.Parameter]) -> list[str]:
    shown, starred = list[str](), False
    for item in parameters:
        if item.kind is item.KEYWORD_ONLY and not starred:
            shown.append("*")
            starred = True
        mark = "**" if item.kind is item.VAR_KEYWORD else "*" if item.kind is item.VAR_POSITIONAL else ""
        starred = starred or item.kind is item.VAR_POSITIONAL
        default = "" if item.default is item.empty else f" = {item.default!r}"
        shown.append(f"{mark}{item.name}: {annotation(item.annotation)}{default}")
    return shown


def annotation(kind: Any) -> str:  # noqa: ANN401 - an annotation may be anything
    """Return an annotation as you would write it, with names but no modules."""
    if kind is inspect.Signature.empty:
        return ""
    if get_origin(kind) is Unpack:
        (fields,) = get_args(kind)
        return f"Unpack[{annotation(fields)}]"
    if kind is None or kind is type(None):
        return "None"
    shown = kind.__name__ if isinstance(kind, type) and not getattr(kind, "__args__", ()) else str(kind)
    return _MODULES.sub("", shown)
