"""Owns `headmix rerank`."""

from typing import Annotated

import typer

from headmix.cli.commands.inference.sampling import ModelOption, SplitSpecialTokens, model_or_base, text_or_stdin
from headmix.cli.output import JsonOption, print_json, print_table
from headmix.cli.session import Session


def rerank(
    ctx: typer.Context,
    query: Annotated[str, typer.Argument(help="What to look for; - reads it from standard input.")],
    documents: Annotated[list[str], typer.Argument(help="The texts to order.")],
    model: ModelOption = None,
    top_n: Annotated[int | None, typer.Option(min=1, help="Print only the best. Default: all.")] = None,
    split_special_tokens: SplitSpecialTokens = False,
    as_json: JsonOption = False,
) -> None:
    """Order texts by how well they answer a query, the best first."""
    with Session.of(ctx).client() as client:
        answer = client.rerank(
            text_or_stdin(query),
            documents,
            model=model_or_base(client, model),
            top_n=top_n,
            return_documents=False,
            split_special_tokens=split_special_tokens or None,
        )
    if as_json:
        print_json(answer)
        return
    rows = [
        (f"{item.relevance_score:.4f}", item.index, documents[item.index])
        for item in answer.results
        if item.index < len(documents)
    ]
    print_table((answer.method, "place", "text"), rows)
