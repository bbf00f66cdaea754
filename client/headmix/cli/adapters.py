"""Owns `headmix adapters`: a tenant's adapters and their versions."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from headmix.cli.arguments import AdapterName
from headmix.cli.output import JsonOption, moment, print_json, print_table, short, size, told
from headmix.cli.progress import transfer_bar
from headmix.cli.rollout import rollout_app
from headmix.cli.session import Session
from headmix.types.adapter import Adapter

adapters_app = typer.Typer(no_args_is_help=True, help="Upload, inspect and manage your adapters.")
adapters_app.add_typer(rollout_app)

Version = Annotated[int | None, typer.Option("--version", min=1, help="Default: the current version.")]

Number = Annotated[int, typer.Argument(min=1, help="The version's number.")]


@adapters_app.command()
def push(
    ctx: typer.Context,
    name: AdapterName,
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, readable=True, help="The artifact.")],
    allow_base_mismatch: Annotated[
        bool, typer.Option(help="Accept an adapter trained on other weights of the same dimensions.")
    ] = False,
    current: Annotated[
        bool, typer.Option("--current/--beside", help="Answer from now on, or stand beside the current version.")
    ] = True,
) -> None:
    """Upload an artifact; new bytes become the current version, or one beside it to try out as a canary."""
    with Session.of(ctx).client() as client, transfer_bar(f"pushing {file.name}") as progress:
        pushed = client.adapters.push(
            name, file, progress=progress, allow_base_mismatch=allow_base_mismatch, current=current
        )
    news = "new version" if pushed.new_version else "unchanged: these bytes are this version already"
    typer.echo(f"{told(pushed)} ({news})")


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
def versions(ctx: typer.Context, name: AdapterName, as_json: JsonOption = False) -> None:
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
    name: AdapterName,
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
    name: AdapterName,
    version: Annotated[
        int | None, typer.Option("--version", min=1, help="Default: the one before the current.")
    ] = None,
) -> None:
    """Make an earlier version current."""
    with Session.of(ctx).client() as client:
        current = client.adapters.rollback(name, version)
    typer.echo(f"{told(current)} is current")


@adapters_app.command()
def retire(ctx: typer.Context, name: AdapterName, version: Number) -> None:
    """Keep a version that is not the current one from being named; its bytes stay."""
    with Session.of(ctx).client() as client:
        retired = client.adapters.retire(name, version)
    typer.echo(f"{told(retired)} is {retired.state}")


@adapters_app.command()
def restore(ctx: typer.Context, name: AdapterName, version: Number) -> None:
    """Let a retired version be named again."""
    with Session.of(ctx).client() as client:
        restored = client.adapters.restore(name, version)
    typer.echo(f"{told(restored)} is {restored.state}")


@adapters_app.command()
def load(ctx: typer.Context, name: AdapterName, version: Version = None) -> None:
    """Bring an adapter onto the device ahead of its first request."""
    with Session.of(ctx).client() as client:
        loaded = client.adapters.load(name, version)
    typer.echo(f"{told(loaded)} is on {loaded.resident or 'the server'}")


@adapters_app.command()
def download(
    ctx: typer.Context,
    name: AdapterName,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", dir_okay=False, help="Default: NAME.safetensors here.")
    ] = None,
    version: Version = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file that is there.")] = False,
) -> None:
    """Save an adapter's artifact to a file."""
    destination = output or Path(f"{Path(name).name}.safetensors")
    if destination.exists() and not force:
        typer.echo(f"error: {destination} exists; --force replaces it, --output writes elsewhere", err=True)
        raise typer.Exit(2)
    with Session.of(ctx).client() as client, transfer_bar(f"downloading {name}") as progress:
        saved = client.adapters.save(name, destination, version, progress=progress)
    typer.echo(f"saved {saved}")


def _print_adapters(found: Sequence[Adapter]) -> None:
    columns = ("name", "version", "state", "task", "method", "size", "created", "digest", "resident")
    print_table(
        columns,
        (
            (
                adapter.name,
                adapter.version,
                _state(adapter),
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


def _state(adapter: Adapter) -> str:
    """Current, pinned on the device, a canary with its percentage, or what else the server says."""
    canary = adapter.canary
    if canary is not None and canary.version == adapter.version:
        return f"canary {canary.percent} %"
    if adapter.current:
        return "current, pinned" if adapter.pinned else "current"
    return adapter.state or ""
