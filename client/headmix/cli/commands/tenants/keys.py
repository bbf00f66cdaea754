"""Owns `headmix keys`: how administrators manage tenants' keys."""

import re
import time
from typing import Annotated

import typer

from headmix.cli.output import JsonOption, moment, print_json, print_table, say
from headmix.cli.session import Session
from headmix.types.tenants.tenant import Key, NewKey

keys_app = typer.Typer(no_args_is_help=True, help="Create, rotate and revoke keys (needs a key with the scope admin).")

TenantName = Annotated[str, typer.Argument(metavar="TENANT", help="The tenant's name.")]
KeyId = Annotated[str, typer.Argument(metavar="KEY_ID", help="The key's id, as `headmix keys list` shows it.")]

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_SPAN = re.compile(r"([1-9]\d{0,8})([smhd])")


def parse_span(text: str) -> int:
    """Return a duration like `90d`, `12h`, `30m` or `45s` in seconds."""
    match = _SPAN.fullmatch(text)
    if match is None:
        raise typer.BadParameter("a duration is a number and one of s, m, h, d, for example 90d")
    return int(match[1]) * _UNITS[match[2]]


@keys_app.command(name="list")
def list_keys(ctx: typer.Context, tenant: TenantName, as_json: JsonOption = False) -> None:
    """List a tenant's keys, including revoked and expired ones."""
    with Session.of(ctx).client() as client:
        found = client.keys.list(tenant)
    if as_json:
        print_json(found)
        return
    columns = ("id", "name", "prefix", "scopes", "created", "last used", "expires", "revoked")
    print_table(columns, map(_row, found))


@keys_app.command()
def create(
    ctx: typer.Context,
    tenant: TenantName,
    scopes: Annotated[list[str], typer.Option("--scope", help="inference, adapters, metrics or admin; repeatable.")],
    name: Annotated[str | None, typer.Option(help="What the key is for.")] = None,
    expires_in: Annotated[str | None, typer.Option(help="Lifetime, such as 90d. Default: never expires.")] = None,
) -> None:
    """Create a key and print its text, which is shown only once."""
    expires = None if expires_in is None else int(time.time()) + parse_span(expires_in)
    with Session.of(ctx).client() as client:
        _print_new(client.keys.create(tenant, scopes, name=name, expires=expires))


@keys_app.command()
def rotate(
    ctx: typer.Context,
    tenant: TenantName,
    key_id: KeyId,
    grace: Annotated[str | None, typer.Option(help="How long the old key stays valid, such as 24h.")] = None,
) -> None:
    """Replace a key with a new one and print its text. Without --grace the old key ends at once."""
    grace_seconds = 0 if grace is None else parse_span(grace)
    with Session.of(ctx).client() as client:
        _print_new(client.keys.rotate(tenant, key_id, grace_seconds=grace_seconds))


@keys_app.command()
def revoke(ctx: typer.Context, tenant: TenantName, key_id: KeyId) -> None:
    """Revoke a key at once."""
    with Session.of(ctx).client() as client:
        say(f"revoked {client.keys.revoke(tenant, key_id).id}")


def _print_new(new: NewKey) -> None:
    """Print a new key; only its text goes to stdout, so that a script can capture it."""
    until = "until it is revoked" if new.expires is None else f"until {moment(new.expires)} UTC"
    say(f"{new.id} of {new.tenant}, {' '.join(new.scopes)}, {until}; its text is not shown again:", err=True)
    say(new.key)


def _row(key: Key) -> tuple[str | None, ...]:
    times = map(_moment, (key.created, key.last_used, key.expires, key.revoked))
    return (key.id, key.name, key.prefix, " ".join(key.scopes), *times)


def _moment(unix: int | None) -> str | None:
    return None if unix is None else moment(unix)
