"""Owns `headmix usage`: requests and tokens, or stored bytes."""

from datetime import date
from typing import Annotated

import typer

from headmix.cli.output import JsonOption, pass_on, print_json, print_table
from headmix.cli.session import Session
from headmix.operations.tenants.usage import GROUPS

COUNTS = ("requests", "prompt_tokens", "cached_tokens", "generation_tokens", "trained_tokens")


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter("a day is written like 2026-11-24") from None


def usage(
    ctx: typer.Context,
    first: Annotated[
        date | None,
        typer.Option("--from", parser=_day, metavar="DAY", help="First day (UTC). Default: 30 days before the last."),
    ] = None,
    last: Annotated[
        date | None, typer.Option("--to", parser=_day, metavar="DAY", help="Last day. Default: today.")
    ] = None,
    tenant: Annotated[
        str | None, typer.Option(help="The tenant; for another one than yours you need the scope admin.")
    ] = None,
    group_by: Annotated[str, typer.Option(help="Some of tenant, day and model, comma-separated.")] = ",".join(GROUPS),
    storage: Annotated[
        bool, typer.Option("--storage", help="Show stored bytes and their limit (0: no limit) instead.")
    ] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV instead of a table.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show requests and tokens by tenant, day and model. At most a minute behind."""
    if storage:
        _show_storage(ctx, tenant, as_json=as_json)
        return
    groups = [name for name in group_by.split(",") if name]
    with Session.of(ctx).client() as client:
        if as_csv:
            text = client.usage_csv(first=first, last=last, tenant=tenant, group_by=groups)
            pass_on(text.replace("\r\n", "\n"))
            return
        lines = client.usage(first=first, last=last, tenant=tenant, group_by=groups)
    if as_json:
        print_json(lines)
    else:
        columns = (*(name for name in GROUPS if name in groups), *COUNTS)
        print_table(columns, ([getattr(line, name) for name in columns] for line in lines))


def _show_storage(ctx: typer.Context, tenant: str | None, *, as_json: bool) -> None:
    with Session.of(ctx).client() as client:
        stored = client.storage(tenant)
    if as_json:
        print_json(stored)
    else:
        columns = ("tenant", "stored_bytes", "held_by_jobs", "limit")
        print_table(columns, [[getattr(stored, name) for name in columns]])
