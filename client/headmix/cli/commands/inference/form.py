"""Owns the options that say what form an answer has, and what they become in a request."""

import json
from pathlib import Path
from typing import Annotated

import typer

JsonSchema = Annotated[
    Path | None,
    typer.Option(exists=True, dir_okay=False, help="Answer with JSON that fits the schema in this file."),
]
Regex = Annotated[str | None, typer.Option(help="Answer with a text that this regular expression matches as a whole.")]
Choice = Annotated[list[str] | None, typer.Option(help="Answer with one of these texts; repeatable.")]


def form_of(json_schema: Path | None, regex: str | None, choice: list[str] | None) -> dict[str, object] | None:
    """The request's `structured_outputs`, None where no form was asked for."""
    given = {"json": json_schema, "regex": regex, "choice": choice or None}
    forms = [name for name, value in given.items() if value is not None]
    if len(forms) > 1:
        raise typer.BadParameter("take one of --json-schema, --regex and --choice")
    if json_schema is not None:
        return {"json": _schema(json_schema)}
    return {name: given[name] for name in forms} or None


def _schema(path: Path) -> object:
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise typer.BadParameter(f"{path} is not JSON: {error}", param_hint="--json-schema") from None
