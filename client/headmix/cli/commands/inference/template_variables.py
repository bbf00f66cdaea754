"""Owns the option that sets variables of the chat template."""

import json
from collections.abc import Sequence
from typing import Annotated

import typer

TemplateVariables = Annotated[
    list[str] | None,
    typer.Option(
        "--template-variable",
        metavar="NAME=VALUE",
        help="Set a variable of the chat template, such as enable_thinking=false; repeatable.",
    ),
]


def variables_of(given: Sequence[str]) -> dict[str, object] | None:
    """Return the variables by name, None if there are none; a value that is not JSON is a text."""
    variables: dict[str, object] = {}
    for entry in given:
        name, equals, value = entry.partition("=")
        if not (name and equals):
            raise typer.BadParameter(f"{entry!r} is not NAME=VALUE", param_hint="--template-variable")
        variables[name] = _value(value)
    return variables or None


def _value(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
