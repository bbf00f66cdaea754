"""Owns `headmix complete`."""

from typing import Annotated

import typer

from headmix.cli.form import Choice, JsonSchema, Regex, form_of
from headmix.cli.output import pass_on
from headmix.cli.sampling import (
    MaxTokens,
    ModelOption,
    Seed,
    SplitSpecialTokens,
    Stop,
    Temperature,
    TopK,
    TopP,
    model_or_base,
    text_or_stdin,
)
from headmix.cli.session import Session


def complete(
    ctx: typer.Context,
    prompt: Annotated[str, typer.Argument(help="The text to continue; - reads it from standard input.")],
    model: ModelOption = None,
    max_tokens: MaxTokens = None,
    temperature: Temperature = None,
    top_p: TopP = None,
    top_k: TopK = None,
    seed: Seed = None,
    stop: Stop = None,
    split_special_tokens: SplitSpecialTokens = False,
    json_schema: JsonSchema = None,
    regex: Regex = None,
    choice: Choice = None,
) -> None:
    """Continue a text and print it as it is generated."""
    with (
        Session.of(ctx).client() as client,
        client.stream.complete(
            text_or_stdin(prompt),
            model=model_or_base(client, model),
            max_tokens=max_tokens,
            temperature=temperature,
            top_p=top_p,
            top_k=top_k,
            seed=seed,
            stop=stop or None,
            split_special_tokens=split_special_tokens or None,
            structured_outputs=form_of(json_schema, regex, choice),
        ) as chunks,
    ):
        for chunk in chunks:
            pass_on(chunk.text)
    typer.echo()
