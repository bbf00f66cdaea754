"""Owns the options that all generating commands share."""

import sys
from typing import Annotated, NamedTuple

import typer

from headmix.cli.output import say
from headmix.client import Client
from headmix.types.params import ScaledAdapter

ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        envvar="HEADMIX_MODEL",
        help="The base's name, an adapter's name, or NAME@VERSION. Default: the base.",
    ),
]
Adapters = Annotated[
    list[str] | None,
    typer.Option(
        "--adapter",
        metavar="NAME[:SCALE]",
        help="Add up the terms of several adapters, each times its scale; repeatable. In place of --model.",
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


class Asked(NamedTuple):
    """What a command asks: a model, and the adapters whose terms are added up, if any."""

    model: str
    adapters: list[ScaledAdapter] | None = None


def asked_of(ctx: typer.Context, client: Client, model: str | None, adapters: list[str] | None) -> Asked:
    """Return what the options ask for; without any, the server's base, whose name is then printed on a terminal.

    Raises:
        BadParameter: as `scaled`.
    """
    chosen = scaled(ctx, adapters)
    return Asked(model_or_base(client, model)) if chosen is None else Asked(chosen[0]["name"], chosen)


def scaled(ctx: typer.Context, adapters: list[str] | None) -> list[ScaledAdapter] | None:
    """Parse `NAME` and `NAME:SCALE`; None without any. They take precedence over a model from the environment.

    Raises:
        BadParameter: --model is given too, or a scale is no number.
    """
    if not adapters:
        return None
    source = ctx.get_parameter_source("model")
    if source is not None and source.name == "COMMANDLINE":
        raise typer.BadParameter("take --model for one adapter, or --adapter for each of several")
    return [_scaled(text) for text in adapters]


def _scaled(text: str) -> ScaledAdapter:
    name, colon, scale = text.partition(":")
    try:
        return ScaledAdapter(name=name, scale=float(scale)) if colon else ScaledAdapter(name=name)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not NAME or NAME:SCALE, for example tone:0.7") from None


def model_or_base(client: Client, model: str | None) -> str:
    """Return the given model, or else the server's base, whose name is then printed on a terminal."""
    if model is not None:
        return model
    base = client.models.base().id
    if sys.stderr.isatty():
        say(f"(asking {base}; --model names an adapter)", err=True)
    return base
