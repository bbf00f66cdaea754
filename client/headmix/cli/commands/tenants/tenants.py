"""Owns `headmix tenants`: how administrators manage tenants, and the audit log."""

from typing import Annotated

import typer

from headmix.cli.commands.tenants.adapters import tenant_adapters_app
from headmix.cli.commands.tenants.limits import limits
from headmix.cli.output import JsonOption, moment, print_json, print_table, say
from headmix.cli.session import Session

tenants_app = typer.Typer(
    no_args_is_help=True, help="Create, list and limit tenants (needs a key with the scope admin)."
)
tenants_app.command()(limits)
tenants_app.add_typer(tenant_adapters_app, name="adapters")


@tenants_app.command(name="list")
def list_tenants(ctx: typer.Context, as_json: JsonOption = False) -> None:
    """List every tenant."""
    with Session.of(ctx).client() as client:
        found = client.tenants.list()
    if as_json:
        print_json(found)
    else:
        print_table(("tenant", "keys", "created"), ((one.name, one.keys, moment(one.created)) for one in found))


@tenants_app.command()
def create(ctx: typer.Context, name: Annotated[str, typer.Argument(help="The tenant's name.")]) -> None:
    """Create a tenant; an existing one is unchanged."""
    with Session.of(ctx).client() as client:
        say(client.tenants.create(name).name)


@tenants_app.command()
def audit(
    ctx: typer.Context,
    tenant: Annotated[str | None, typer.Option(help="Only changes of this tenant.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Maximum number of changes.")] = 100,
    before: Annotated[int | None, typer.Option(min=0, help="Only changes older than this number.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List changes and who made them, newest first."""
    with Session.of(ctx).client() as client:
        found = client.tenants.audit(tenant=tenant, before=before, limit=limit)
    if as_json:
        print_json(found)
    else:
        print_table(
            ("number", "at", "actor", "tenant", "action", "subject"),
            ((one.number, moment(one.at), one.actor, one.tenant, one.action, one.subject) for one in found),
        )
