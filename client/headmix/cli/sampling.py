"""Owns the options that all generating commands share."""

from typing import Annotated

import typer

ModelOption = Annotated[
    str,
    typer.Option("--model", "-m", envvar="HEADMIX_MODEL", help="The base's name, an adapter's name, or NAME@VERSION."),
]
MaxTokens = Annotated[int | None, typer.Option(min=1, help="Generate at most this many tokens.")]
Temperature = Annotated[float | None, typer.Option(min=0.0, help="0 is greedy.")]
TopP = Annotated[float | None, typer.Option(min=0.0, max=1.0, help="Sample from the likeliest tokens of this mass.")]
TopK = Annotated[int | None, typer.Option(help="Sample from this many of the likeliest tokens.")]
Seed = Annotated[int | None, typer.Option(help="The same seed gives the same answer.")]
Stop = Annotated[list[str] | None, typer.Option(help="End at this text; may be given several times.")]


def text_or_stdin(text: str) -> str:
    """The argument, or standard input for `-`."""
    return typer.get_text_stream("stdin").read() if text == "-" else text
