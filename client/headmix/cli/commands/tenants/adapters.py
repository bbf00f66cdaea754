"""Owns `headmix tenants adapters`: how administrators manage any tenant's adapters."""

from typing import Annotated

import typer

from headmix.cli.commands.adapters.adapters import needed_version, print_adapters, print_versions
from headmix.cli.commands.adapters.arguments import Named, parse_bare, parse_named
from headmix.cli.output import JsonOption, print_json, say
from headmix.cli.session import Session

tenant_adapters_app = typer.Typer(
    no_args_is_help=True, help="List, unshare, unpin, retire and remove any tenant's adapters."
)

Tenant = Annotated[str, typer.Argument(help="The tenant's name.")]
Owned = Annotated[str, typer.Argument(parser=parse_bare, metavar="OWNER/NAME", help="The adapter's owner and name.")]
OwnedVersion = Annotated[
    Named, typer.Argument(parser=parse_named, metavar="OWNER/NAME[@VERSION]", help="The adapter's owner and name.")
]


@tenant_adapters_app.command(name="list")
def list_adapters(ctx: typer.Context, tenant: Tenant, as_json: JsonOption = False) -> None:
    """List a tenant's own adapters."""
    with Session.of(ctx).client() as client:
        found = client.tenants.adapters(tenant)
    if as_json:
        print_json(found)
    else:
        print_adapters(found)


@tenant_adapters_app.command()
def versions(ctx: typer.Context, name: Owned, as_json: JsonOption = False) -> None:
    """List an adapter's versions."""
    with Session.of(ctx).client() as client:
        found = client.tenants.versions(name)
    if as_json:
        print_json(found)
    else:
        print_versions(found)


@tenant_adapters_app.command()
def remove(
    ctx: typer.Context,
    name: OwnedVersion,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask for confirmation.")] = False,
) -> None:
    """Remove an adapter with all its versions, or one version (OWNER/NAME@3) that is not the current one."""
    if not yes:
        what = f"{name} with all its versions" if name.version is None else str(name)
        typer.confirm(f"Remove {what}?", abort=True)
    with Session.of(ctx).client() as client:
        removed = client.tenants.remove_adapter(*name)
    say(f"removed {', '.join(f'{name.name}@{number}' for number in removed.versions) or name.name}")


@tenant_adapters_app.command()
def retire(ctx: typer.Context, name: OwnedVersion) -> None:
    """Retire a version (OWNER/NAME@3), even the current one: it can't be named, but its bytes stay."""
    number = needed_version(name, None)
    with Session.of(ctx).client() as client:
        retired = client.tenants.retire_adapter(name.name, number)
    say(f"{name} is {retired.state}")


@tenant_adapters_app.command()
def unshare(ctx: typer.Context, name: Owned) -> None:
    """Stop sharing an adapter, from the next request on."""
    with Session.of(ctx).client() as client:
        client.tenants.unshare_adapter(name)
    say(f"{name} is no longer shared")


@tenant_adapters_app.command()
def unpin(ctx: typer.Context, name: Owned) -> None:
    """Unpin an adapter: it may leave the device when others need room."""
    with Session.of(ctx).client() as client:
        client.tenants.unpin_adapter(name)
    say(f"{name} is not pinned")
