"""Owns the commands of `headmix adapters` for sharing, canaries and pinning."""

from typing import Annotated

import typer

from headmix.cli.commands.adapters.arguments import AdapterName, AdapterVersionName, VersionOption, version_of
from headmix.cli.output import JsonOption, print_json, say, told
from headmix.cli.session import Session
from headmix.types.adapter import Sharing

rollout_app = typer.Typer()


@rollout_app.command()
def share(
    ctx: typer.Context,
    name: AdapterName,
    tenants: Annotated[list[str] | None, typer.Option("--tenant", help="A tenant that may use it; repeatable.")] = None,
    everyone: Annotated[bool, typer.Option("--everyone", help="Share it with all tenants.")] = False,
) -> None:
    """Share an adapter with exactly these tenants, or with everyone."""
    if (not tenants) == (not everyone):
        raise typer.BadParameter("give either --tenant or --everyone")
    with Session.of(ctx).client() as client:
        say(_whom(client.adapters.share(name, tenants or None, everyone=everyone)))


@rollout_app.command()
def unshare(ctx: typer.Context, name: AdapterName) -> None:
    """Stop sharing an adapter."""
    with Session.of(ctx).client() as client:
        say(_whom(client.adapters.unshare(name)))


@rollout_app.command()
def sharing(ctx: typer.Context, name: AdapterName, as_json: JsonOption = False) -> None:
    """Show whom an adapter is shared with."""
    with Session.of(ctx).client() as client:
        found = client.adapters.sharing(name)
    if as_json:
        print_json(found)
    else:
        say(_whom(found))


@rollout_app.command()
def pin(ctx: typer.Context, name: AdapterName) -> None:
    """Keep an adapter's current version on the device."""
    with Session.of(ctx).client() as client:
        say(f"{told(client.adapters.pin(name))} is pinned")


@rollout_app.command()
def unpin(ctx: typer.Context, name: AdapterName) -> None:
    """Unpin an adapter: it may leave the device again."""
    with Session.of(ctx).client() as client:
        say(f"{told(client.adapters.unpin(name))} is not pinned")


@rollout_app.command()
def canary(
    ctx: typer.Context,
    name: AdapterVersionName,
    version: VersionOption = None,
    percent: Annotated[
        int | None, typer.Option("--percent", min=0, max=100, help="Its percentage of the requests.")
    ] = None,
    end: Annotated[bool, typer.Option("--end", help="Send all requests to the current version again.")] = False,
) -> None:
    """Send a percentage of a name's requests to another version, or end the canary."""
    number = version_of(name, version)
    if (number is None, percent is None) != (end, end):
        raise typer.BadParameter("give the version as NAME@3 and --percent, or the name alone and --end")
    with Session.of(ctx).client() as client:
        if number is None or percent is None:
            say(f"{told(client.adapters.end_canary(name.name))} gets all requests")
        else:
            current = client.adapters.canary(name.name, number, percent)
            say(f"{name.name}@{number} gets {percent} % of the requests, {told(current)} the others")


@rollout_app.command()
def promote(ctx: typer.Context, name: AdapterName) -> None:
    """Make the canary the current version."""
    with Session.of(ctx).client() as client:
        say(f"{told(client.adapters.promote(name))} is current")


def _whom(shares: Sharing) -> str:
    if shares.everyone:
        return f"{shares.name} is shared with everyone"
    return f"{shares.name} is shared with {', '.join(shares.tenants) or 'nobody'}"
