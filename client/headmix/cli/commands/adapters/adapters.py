"""Owns `headmix adapters`: a tenant's adapters and their versions."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from headmix.cli.commands.adapters.arguments import AdapterName, AdapterVersionName, Named, VersionOption, version_of
from headmix.cli.commands.adapters.details import print_details
from headmix.cli.commands.adapters.rollout import rollout_app
from headmix.cli.output import JsonOption, moment, print_json, print_table, reference, say, short, size, told
from headmix.cli.progress import transfer_bar
from headmix.cli.session import Session
from headmix.types.adapter import Adapter

adapters_app = typer.Typer(no_args_is_help=True, help="Upload, inspect and manage your adapters.")
adapters_app.add_typer(rollout_app)

Number = Annotated[int | None, typer.Argument(min=1, metavar="[VERSION]", help="Same as NAME@VERSION.")]


@adapters_app.command()
def push(
    ctx: typer.Context,
    name: AdapterName,
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, readable=True, help="The artifact.")],
    allow_base_mismatch: Annotated[
        bool, typer.Option(help="Accept an adapter trained on other weights of the same dimensions.")
    ] = False,
    current: Annotated[
        bool, typer.Option("--current/--beside", help="Make it the current version, or add it next to the current one.")
    ] = True,
) -> None:
    """Upload an artifact. New bytes become the current version or, with --next to, one to try as a canary."""
    with Session.of(ctx).client() as client, transfer_bar(f"pushing {file.name}") as progress:
        pushed = client.adapters.push(
            name, file, progress=progress, allow_base_mismatch=allow_base_mismatch, current=current
        )
    news = "new version" if pushed.new_version else "unchanged: these bytes are this version already"
    say(f"{told(pushed)} ({news})")


@adapters_app.command(name="list")
def list_adapters(ctx: typer.Context, as_json: JsonOption = False) -> None:
    """List your adapters."""
    with Session.of(ctx).client() as client:
        found = client.adapters.list()
    if as_json:
        print_json(found)
    else:
        print_adapters(found)


@adapters_app.command()
def show(
    ctx: typer.Context, name: AdapterVersionName, version: VersionOption = None, as_json: JsonOption = False
) -> None:
    """Show the details of an adapter's current version, or of the version you name."""
    with Session.of(ctx).client() as client:
        found = client.adapters.get(str(Named(name.name, version_of(name, version))))
    if as_json:
        print_json(found)
    else:
        print_details(found)


@adapters_app.command()
def versions(ctx: typer.Context, name: AdapterName, as_json: JsonOption = False) -> None:
    """List an adapter's versions."""
    with Session.of(ctx).client() as client:
        found = client.adapters.versions(name)
    if as_json:
        print_json(found)
    else:
        print_versions(found)


@adapters_app.command()
def remove(
    ctx: typer.Context,
    name: AdapterVersionName,
    version: VersionOption = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask for confirmation.")] = False,
) -> None:
    """Remove an adapter with all its versions, or one version (NAME@3) that is not the current one."""
    chosen = Named(name.name, version_of(name, version))
    if not yes:
        what = f"{chosen} with all its versions" if chosen.version is None else str(chosen)
        typer.confirm(f"Remove {what}?", abort=True)
    with Session.of(ctx).client() as client:
        removed = client.adapters.remove(*chosen)
    gone = ", ".join(f"{chosen.name}@{number}" for number in removed.versions)
    say(f"removed {gone or f'{chosen.name}, which had no versions'}")


@adapters_app.command()
def rollback(ctx: typer.Context, name: AdapterVersionName, version: VersionOption = None) -> None:
    """Make another version current: the one you name, or the previous one."""
    with Session.of(ctx).client() as client:
        current = client.adapters.rollback(name.name, version_of(name, version))
    say(f"{told(current)} is current")


@adapters_app.command()
def retire(ctx: typer.Context, name: AdapterVersionName, version: Number = None) -> None:
    """Retire a version (NAME@3) that is not current: it can't be named, but its bytes stay."""
    number = needed_version(name, version)
    with Session.of(ctx).client() as client:
        retired = client.adapters.retire(name.name, number)
    say(f"{told(retired)} is {retired.state}")


@adapters_app.command()
def restore(ctx: typer.Context, name: AdapterVersionName, version: Number = None) -> None:
    """Restore a retired version (NAME@3)."""
    number = needed_version(name, version)
    with Session.of(ctx).client() as client:
        restored = client.adapters.restore(name.name, number)
    say(f"{told(restored)} is {restored.state}")


@adapters_app.command()
def load(ctx: typer.Context, name: AdapterVersionName, version: VersionOption = None) -> None:
    """Load an adapter to the device before its first request."""
    with Session.of(ctx).client() as client:
        loaded = client.adapters.load(name.name, version_of(name, version))
    say(f"{told(loaded)} is on {loaded.resident or 'the server'}")


@adapters_app.command()
def download(
    ctx: typer.Context,
    name: AdapterVersionName,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", dir_okay=False, help="Default: NAME.safetensors in this folder.")
    ] = None,
    version: VersionOption = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
) -> None:
    """Save an adapter's artifact to a file."""
    chosen = Named(name.name, version_of(name, version))
    destination = output or Path(f"{Path(chosen.name).name}.safetensors")
    if destination.exists() and not force:
        say(f"error: {destination} exists; --force replaces it, --output writes elsewhere", err=True)
        raise typer.Exit(2)
    with Session.of(ctx).client() as client, transfer_bar(f"downloading {chosen}") as progress:
        saved = client.adapters.save(chosen.name, destination, chosen.version, progress=progress)
    say(f"saved {saved}")


def needed_version(name: Named, version: int | None) -> int:
    """Return the version, which must be given."""
    number = version_of(name, version)
    if number is None:
        raise typer.BadParameter(f"give the version, for example {name}@3")
    return number


def print_adapters(found: Sequence[Adapter]) -> None:
    """Print a table of adapters."""
    columns = ("adapter", "task", "method", "canary", "pinned", "size", "created", "digest", "resident")
    print_table(
        columns,
        (
            (
                reference(adapter),
                adapter.task,
                adapter.method,
                _canary(adapter),
                "yes" if adapter.pinned else None,
                *_file(adapter),
            )
            for adapter in found
        ),
    )


def print_versions(found: Sequence[Adapter]) -> None:
    """Print a table of an adapter's versions."""
    columns = ("adapter", "state", "task", "method", "size", "created", "digest", "resident")
    print_table(
        columns,
        ((reference(one), _state(one), one.task, one.method, *_file(one)) for one in found),
    )


def _file(adapter: Adapter) -> tuple[str | None, ...]:
    return (size(adapter.size_bytes), moment(adapter.created), short(adapter.digest), adapter.resident)


def _canary(adapter: Adapter) -> str | None:
    canary = adapter.canary
    return None if canary is None else f"{adapter.name}@{canary.version} {canary.percent} %"


def _state(adapter: Adapter) -> str:
    """Return whether a version is current, pinned or a canary with its percentage, or else the server's own state."""
    canary = adapter.canary
    if canary is not None and canary.version == adapter.version:
        return f"canary {canary.percent} %"
    if adapter.current and adapter.state != "retired":
        return "current, pinned" if adapter.pinned else "current"
    return adapter.state or ""
