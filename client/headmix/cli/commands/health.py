"""Owns `headmix health`."""

import typer

from headmix.cli.output import say
from headmix.cli.session import Session


def health(ctx: typer.Context) -> None:
    """Report whether the server is alive and ready; exits with 1 if it is not."""
    with Session.of(ctx).client() as client:
        alive = client.health()
        readiness = client.ready()
    say(f"alive: {alive.status}")
    say(f"ready: {readiness.status}" + (f" ({readiness.reason})" if readiness.reason else ""))
    if not readiness.ready:
        raise typer.Exit(1)
