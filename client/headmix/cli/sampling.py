"""Owns the options that all generating commands share."""

import sys
from typing import Annotated

import typer

from headmix.cli.output import say
from headmix.client import Client

ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        envvar="HEADMIX_MODEL",
        help="The base's name, an adapter's name, or NAME@VERSION. Default: the base.",
    ),
]
MaxTokens = Annotated[int | None, typer.Option(min=1, help="Maximum tokens to generate.")]
Temperature = Annotated[float | None, typer.Option(min=0.0, help="Sampling temperature; 0 is greedy.")]
TopP = Annotated[
    float | None,
    typer.Option(min=0.0, max=1.0, help="Sample from the most probable tokens with this total probability."),
]
TopK = Annotated[int | None, typer.Option(help="Sample from this many of the most probable tokens.")]
Seed = Annotated[int | None, typer.Option(help="The same seed gives the same answer.")]
Stop = Annotated[list[str] | None, typer.Option(help="Stop at this text; repeatable.")]
SplitSpecialTokens = Annotated[
    bool,
    typer.Option("--split-special-tokens", help="Treat special tokens in your texts as plain text."),
]
ShowSpecialTokens = Annotated[
    bool,
    typer.Option("--show-special-tokens", help="Print the special tokens in the answer, too."),
]
Truncate = Annotated[
    int | None,
    typer.Option(help="Keep at most this many tokens of a longer text; -1 keeps as many as the context holds."),
]


def text_or_stdin(text: str) -> str:
    """Return the argument, or standard input for `-`."""
    return typer.get_text_stream("stdin").read() if text == "-" else text


def model_or_base(client: Client, model: str | None) -> str:
    """Return the given model, or else the server's base, whose name is then printed on a terminal."""
    if model is not None:
        return model
    base = client.models.base().id
    if sys.stderr.isatty():
        say(f"(asking {base}; --model names an adapter)", err=True)
    return base
