"""Owns `headmix tokenize`."""

from typing import Annotated

import typer

from headmix.cli.commands.inference.sampling import ModelOption, SplitSpecialTokens, model_or_base, text_or_stdin
from headmix.cli.output import JsonOption, print_json, print_table
from headmix.cli.session import Session


def tokenize(
    ctx: typer.Context,
    text: Annotated[str, typer.Argument(help="The text; - reads standard input.")],
    model: ModelOption = None,
    special_tokens: Annotated[
        bool, typer.Option("--special-tokens/--bare", help="Add the special tokens the base expects, or don't.")
    ] = True,
    split_special_tokens: SplitSpecialTokens = False,
    as_json: JsonOption = False,
) -> None:
    """Show the tokens of a text."""
    with Session.of(ctx).client() as client:
        answer = client.tokenize(
            text_or_stdin(text),
            model=model_or_base(client, model),
            add_special_tokens=special_tokens,
            return_token_strings=True,
            split_special_tokens=split_special_tokens or None,
        )
    if as_json:
        print_json(answer)
        return
    print_table(("id", "token"), zip(answer.tokens, answer.token_strs or (), strict=True))
    typer.echo(f"{answer.count} of {answer.max_model_len} tokens")
