"""Owns the sub-commands of the distribution's other parts, found through the entry point group `headmix.commands`.

An entry point's value is a function with typer-annotated parameters, or a `typer.Typer`. It is not imported until its
command is run: the parts load torch, and `headmix --help` must not. Its context object is the session, through which a
part reaches the server without knowing the client.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points

import typer

from headmix.cli.session import Session

GROUP = "headmix.commands"


@dataclass(frozen=True, slots=True)
class Known:
    """What is known about a command without importing it: its line in the help, and the extra that it requires."""

    help: str
    extra: str


_KNOWN = {
    "serve": Known("Start the server.", "server"),
    "train": Known("Train an adapter.", "train"),
    "train-worker": Known("Train fine-tuning jobs of a server, on this machine.", "server"),
    "validate-data": Known("Check a data file for training in full.", "adapters"),
    "inspect": Known("Show what an adapter artifact contains.", "adapters"),
    "verify": Known("Check an adapter artifact in full.", "adapters"),
    "compare": Known("Show adapter artifacts next to each other.", "adapters"),
    "edit": Known("Change an adapter artifact's example prompts.", "adapters"),
    "merge": Known("Merge adapter artifacts of one base into one.", "adapters"),
    "convert": Known("Convert an adapter made elsewhere into an artifact.", "adapters"),
    "export": Known("Write an adapter as a PEFT LoRA folder.", "adapters"),
}


def add_plugins(app: typer.Typer) -> None:
    """Add every discovered command to the app; if the client itself has a command of that name, the client's wins."""
    taken = {command.name or getattr(command.callback, "__name__", "") for command in app.registered_commands}
    taken |= {group.name for group in app.registered_groups if isinstance(group.name, str)}
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        if entry.name not in taken:
            taken.add(entry.name)
            _add(app, entry)


def _add(app: typer.Typer, entry: EntryPoint) -> None:
    """Register a stand-in that takes any arguments, including `--help`, and passes them to the real command."""
    known = _KNOWN.get(entry.name, Known(entry.name, "server"))

    @app.command(
        entry.name,
        help=known.help,
        add_help_option=False,
        context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    )
    def run(ctx: typer.Context) -> None:
        try:
            _run(entry, ctx.args, ctx.command_path, Session.of(ctx))
        except ModuleNotFoundError as error:
            if _is_ours(error, entry):
                raise
            typer.echo(
                f"error: `headmix {entry.name}` needs packages that are not installed ({error}); "
                f"install them with: pip install 'headmix[{known.extra}]'",
                err=True,
            )
            raise typer.Exit(1) from error


def _run(entry: EntryPoint, args: Sequence[str], path: str, session: Session) -> None:
    """Import the real command and run it; it ends with SystemExit, like any command line."""
    target: object = entry.load()
    if isinstance(target, typer.Typer):
        command = target
    elif callable(target):
        command = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        command.command(entry.name)(target)
    else:
        raise TypeError(f"entry point {entry.name} = {entry.value} is neither a function nor a typer.Typer")
    command(args=list(args), prog_name=path, obj=session)


def _is_ours(error: ModuleNotFoundError, entry: EntryPoint) -> bool:
    """Return whether a missing module is one of headmix's own: a defect that installing an extra does not fix."""
    missing = (error.name or "").split(".")[0]
    return missing in {entry.module.split(".")[0], "headmix"} and "." in (error.name or "")
