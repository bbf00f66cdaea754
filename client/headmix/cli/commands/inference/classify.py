"""Owns `headmix classify`."""

from typing import Annotated

import typer

from headmix.cli.commands.inference.sampling import (
    Adapters,
    ModelOption,
    SplitSpecialTokens,
    Truncate,
    scaled,
    text_or_stdin,
)
from headmix.cli.output import JsonOption, print_json, print_table
from headmix.cli.printable import printable
from headmix.cli.session import Session
from headmix.client import Client

MAX_LISTED = 8


def classify(
    ctx: typer.Context,
    texts: Annotated[list[str], typer.Argument(help="The texts; - reads one from standard input.")],
    model: ModelOption = None,
    adapter: Adapters = None,
    split_special_tokens: SplitSpecialTokens = False,
    truncate: Truncate = None,
    as_json: JsonOption = False,
) -> None:
    """Classify one or more texts."""
    inputs = [text_or_stdin(text) for text in texts]
    adapters = scaled(ctx, adapter)
    with Session.of(ctx).client() as client:
        answer = client.classify(
            inputs,
            model=_classifier(client, model) if adapters is None else adapters[0]["name"],
            adapters=adapters,
            split_special_tokens=split_special_tokens or None,
            truncate_prompt_tokens=truncate,
        )
    if as_json:
        print_json(answer)
        return
    rows = [
        (item.label, f"{max(item.probs):.4f}" if item.probs else None, inputs[item.index])
        for item in answer.data
        if item.index < len(inputs)
    ]
    print_table(("label", "probability", "text"), rows)


def _classifier(client: Client, model: str | None) -> str:
    """Return the given model, or the base if it classifies.

    Raises:
        BadParameter: no model is given, and the base does not classify.
    """
    if model is not None:
        return model
    found = client.models.list()
    able = [one for one in found if "classification" in one.capabilities]
    if base := next((one for one in able if one.parent is None), None):
        return base.id
    names = [printable(one.id) for one in able]
    shown = ", ".join(names[:MAX_LISTED]) + (", ..." if len(names) > MAX_LISTED else "")
    raise typer.BadParameter(
        f"give a classifier adapter: {shown}" if names else "there is no classifier adapter yet",
        param_hint="--model",
    )
