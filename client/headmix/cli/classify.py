"""Owns `headmix classify`."""

from typing import Annotated

import typer

from headmix.cli.output import JsonOption, print_json, print_table
from headmix.cli.sampling import ModelOption, text_or_stdin
from headmix.cli.session import Session


def classify(
    ctx: typer.Context,
    texts: Annotated[list[str], typer.Argument(help="The texts; - reads one from standard input.")],
    model: ModelOption,
    as_json: JsonOption = False,
) -> None:
    """Classify one text or several."""
    inputs = [text_or_stdin(text) for text in texts]
    with Session.of(ctx).client() as client:
        answer = client.classify(inputs, model=model)
    if as_json:
        print_json(answer)
        return
    rows = [
        (item.label, f"{max(item.probs):.4f}" if item.probs else None, inputs[item.index])
        for item in answer.data
        if item.index < len(inputs)
    ]
    print_table(("label", "probability", "text"), rows)
