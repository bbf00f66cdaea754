"""Owns `headmix complete`."""

from typing import Annotated

import typer

from headmix.cli.commands.inference.form import Choice, JsonSchema, Regex, form_of
from headmix.cli.commands.inference.sampling import (
    Adapters,
    MaxTokens,
    ModelOption,
    Seed,
    ShowSpecialTokens,
    SplitSpecialTokens,
    Stop,
    Temperature,
    TopK,
    TopP,
    Truncate,
    asked_of,
    text_or_stdin,
)
from headmix.cli.output import pass_on
from headmix.cli.session import Session
from headmix.types.params import CompletionParams


def complete(
    ctx: typer.Context,
    prompt: Annotated[str, typer.Argument(help="The text to continue; - reads it from standard input.")],
    model: ModelOption = None,
    adapter: Adapters = None,
    max_tokens: MaxTokens = None,
    temperature: Temperature = None,
    top_p: TopP = None,
    top_k: TopK = None,
    seed: Seed = None,
    stop: Stop = None,
    split_special_tokens: SplitSpecialTokens = False,
    show_special_tokens: ShowSpecialTokens = False,
    truncate: Truncate = None,
    suffix: Annotated[
        str | None, typer.Option(help="The text behind what is generated, for bases that fill in.")
    ] = None,
    best_of: Annotated[
        int | None, typer.Option(min=1, help="Generate this many completions and print the most probable one.")
    ] = None,
    json_schema: JsonSchema = None,
    regex: Regex = None,
    choice: Choice = None,
) -> None:
    """Continue a text and print it as it is generated."""
    params = CompletionParams(
        max_tokens=max_tokens,
        temperature=temperature,
        top_p=top_p,
        top_k=top_k,
        seed=seed,
        stop=stop or None,
        split_special_tokens=split_special_tokens or None,
        skip_special_tokens=False if show_special_tokens else None,
        truncate_prompt_tokens=truncate,
        suffix=suffix,
        structured_outputs=form_of(json_schema, regex, choice),
    )
    with Session.of(ctx).client() as client:
        asked, text = asked_of(ctx, client, model, adapter), text_or_stdin(prompt)
        params["adapters"] = asked.adapters
        if best_of is not None:  # which one it is shows at the end
            params["best_of"] = best_of
            pass_on(client.complete(text, model=asked.model, **params).text)
        else:
            with client.stream.complete(text, model=asked.model, **params) as chunks:
                for chunk in chunks:
                    pass_on(chunk.text)
    typer.echo()
