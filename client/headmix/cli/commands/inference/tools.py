"""Owns the option that offers the model tools, and how calls of them are printed."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from headmix.cli.output import pass_on
from headmix.types.inference.chat import ToolCall

ToolFile = Annotated[
    Path | None,
    typer.Option(
        "--tool",
        exists=True,
        dir_okay=False,
        help="Offer the model the tool in this JSON file, or its list of tools; calls are printed, not made.",
    ),
]


def tools_of(path: Path | None) -> list[dict[str, object]] | None:
    """The request's `tools`, None without a file. A function alone is taken for a tool."""
    if path is None:
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise typer.BadParameter(f"{path} is not JSON: {error}", param_hint="--tool") from None
    tools = content if isinstance(content, list) else [content]
    if not tools or not all(isinstance(tool, dict) for tool in tools):
        raise typer.BadParameter(f"{path} holds neither a tool nor a list of tools", param_hint="--tool")
    return [tool if "function" in tool else {"type": "function", "function": tool} for tool in tools]


def print_calls(calls: Iterable[ToolCall]) -> None:
    """Print each call on a line of its own: the function's name, and the arguments as JSON."""
    for call in calls:
        pass_on(f"{call.function.name} {call.function.arguments}\n")
