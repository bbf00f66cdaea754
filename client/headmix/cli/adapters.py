"""Owns `headmix adapters`: a tenant's adapters and their versions."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from headmix.cli.output import JsonOption, moment, print_json, print_table, short, size
from headmix.cli.progress import transfer_bar
from headmix.cli.session import Session
from headmix.types.adapter import Adapter

adapters_app = typer.Typer(no_args_is_help=True, help="Upload, inspect and manage your adapters.")

Name = Annotated[str, typer.Argument(help="The adapter's name.")]
Version = Annotated[int | None, typer.Option("--version", min=1, help="Default: the current version.")]

Number = Annotated[int, typer.Argument(min=1, help="The version's number.")]


@adapters_app.command()
def push(
    ctx: typer.Context,
    name: Name,
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, readable=True, help="The artifact.")],
    allow_base_mismatch: Annotated[
        bool, typer.Option(help="Accept an adapter trained on other weights of the same dimensions.")
    ] = False,
) -> None:
    """Upload an artifact; new bytes become the current version."""
    with Session.of(ctx).client() as client, transfer_bar(f"pushing {file.name}") as progress:
        pushed = client.adapters.push(name, file, progress=progress, allow_base_mismatch=allow_base_mismatch)
    news = "new version" if pushed.new_version else "unchanged: these bytes are the current version already"
    typer.echo(f"{_told(pushed)} ({news})")


@adapters_app.command(name="list")
def list_adapters(ctx: typer.Context, as_json: JsonOption = False) -> None:
    """List your adapters."""
    with Session.of(ctx).client() as client:
        found = client.adapters.list()
    if as_json:
        print_json(found)
    else:
        _print_adapters(found)


@adapters_app.command()
def versions(ctx: typer.Context, name: Name, as_json: JsonOption = False) -> None:
    """List an adapter's versions."""
    with Session.of(ctx).client() as client:
        found = client.adapters.versions(name)
    if as_json:
        print_json(found)
    else:
        _print_adapters(found)


@adapters_app.command()
def remove(
    ctx: typer.Context,
    name: Name,
    version: Annotated[int | None, typer.Option("--version", min=1, help="Default: all of them.")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Remove an adapter with all its versions, or one version that is not the current one."""
    if not yes:
        what = f"{name} with all its versions" if version is None else f"{name}@{version}"
        typer.confirm(f"Remove {what}?", abort=True)
    with Session.of(ctx).client() as client:
        removed = client.adapters.remove(name, version)
    typer.echo(f"removed {removed.name}, versions {', '.join(map(str, removed.versions)) or 'none'}")


@adapters_app.command()
def rollback(
    ctx: typer.Context,
    name: Name,
    version: Annotated[
        int | None, typer.Option("--version", min=1, help="Default: the one before the current.")
    ] = None,
) -> None:
    """Make an earlier version current."""
    with Session.of(ctx).client() as client:
        current = client.adapters.rollback(name, version)
    typer.echo(f"{_told(current)} is current")


@adapters_app.command()
def retire(ctx: typer.Context, name: Name, version: Number) -> None:
    """Keep a version that is not the current one from being named; its bytes stay."""
    with Session.of(ctx).client() as client:
        retired = client.adapters.retire(name, version)
    typer.echo(f"{_told(retired)} is {retired.state}")


@adapters_app.command()
def restore(ctx: typer.Context, name: Name, version: Number) -> None:
    """Let a retired version be named again."""
    with Session.of(ctx).client() as client:
        restored = client.adapters.restore(name, version)
    typer.echo(f"{_told(restored)} is {restored.state}")


@adapters_app.command()
def load(ctx: typer.Context, name: Name, version: Version = None) -> None:
    """Bring an adapter onto the device ahead of its first request."""
    with Session.of(ctx).client() as client:
        loaded = client.adapters.load(name, version)
    typer.echo(f"{_told(loaded)} is on {loaded.resident or 'the server'}")


@adapters_app.command()
def download(
    ctx: typer.Context,
    name: Name,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", dir_okay=False, help="Default: NAME.safetensors here.")
    ] = None,
    version: Version = None,
) -> None:
    """Save an adapter's artifact to a file."""
    destination = output or Path(f"{Path(name).name}.safetensors")
    with Session.of(ctx).client() as client, transfer_bar(f"downloading {name}") as progress:
        saved = client.adapters.save(name, destination, version, progress=progress)
    typer.echo(f"saved {saved}")


def _told(adapter: Adapter) -> str:
    return f"{adapter.name}@{adapter.version} {adapter.digest}"


def _print_adapters(found: Sequence[Adapter]) -> None:
    columns = ("name", "version", "state", "task", "method", "size", "created", "digest", "resident")
    print_table(
        columns,
        (
            (
                adapter.name,
                adapter.version,
                "current" if adapter.current else adapter.state,
                adapter.task,
                adapter.method,
                size(adapter.size_bytes),
                moment(adapter.created),
                short(adapter.digest),
                adapter.resident,
            )
            for adapter in found
        ),
    )
