"""Owns `headmix embed`."""

import json
from typing import Annotated, Literal

import typer

from headmix.cli.commands.inference.sampling import (
    Adapters,
    ModelOption,
    SplitSpecialTokens,
    Truncate,
    asked_of,
    text_or_stdin,
)
from headmix.cli.output import print_json
from headmix.cli.session import Session


def embed(
    ctx: typer.Context,
    texts: Annotated[list[str], typer.Argument(help="The texts; - reads one from standard input.")],
    model: ModelOption = None,
    adapter: Adapters = None,
    pooling: Annotated[
        Literal["mean", "last", "cls"] | None,
        typer.Option(help="How token states become one vector. Default: what suits the base."),
    ] = None,
    normalize: Annotated[
        bool | None, typer.Option("--normalize/--raw", help="Normalize each vector to length 1, or don't.")
    ] = None,
    split_special_tokens: SplitSpecialTokens = False,
    truncate: Truncate = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole answer as JSON.")] = False,
) -> None:
    """Embed each text. Prints one JSON list per line."""
    inputs = [text_or_stdin(text) for text in texts]
    with Session.of(ctx).client() as client:
        asked = asked_of(ctx, client, model, adapter)
        answer = client.embed(
            inputs,
            model=asked.model,
            adapters=asked.adapters,
            pooling=pooling,
            normalize=normalize,
            split_special_tokens=split_special_tokens or None,
            truncate_prompt_tokens=truncate,
        )
    if as_json:
        print_json(answer)
        return
    for vector in answer.vectors:
        typer.echo(json.dumps(vector))
