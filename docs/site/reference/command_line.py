"""The page on the `headmix` command: each sub-command with its arguments and options, as in `--help`."""

import enum
from collections.abc import Iterator, Mapping
from importlib.metadata import entry_points
from typing import Any, Literal, get_args, get_origin

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

from docs.site.reference.markdown import as_sentence, code, table
from headmix.cli import build_app
from headmix.cli.plugins import GROUP

_HEAD = """# The `headmix` command

Every sub-command with its arguments and options. [The client's page](../client.md) has examples, and says where the
command finds the server and the key.

"""

_KINDS: Mapping[object, str] = {str: "TEXT", int: "N", float: "NUMBER"}


def command_line_page() -> str:
    """Return the page."""
    return _HEAD + "".join(_sections("headmix", typer.main.get_command(build_app())))


def _sections(path: str, command: object) -> Iterator[str]:
    """Yield a command's section and those of its sub-commands, in the order of `--help`."""
    parts = {entry.name: entry for entry in entry_points(group=GROUP)} if path == "headmix" else {}
    if isinstance(command, TyperGroup):
        if options := list(_options(command)):
            yield f"## {path}\n\n{command.help or ''}\n\n{table(('option', 'value', ''), options)}"
        for name, sub in command.commands.items():
            loaded = _part(name, parts[name].load()) if name in parts else sub
            yield from _sections(f"{path} {name}", loaded)
    elif isinstance(command, TyperCommand):
        yield f"## {path}\n\n{command.help or ''}\n\n{_usage(path, command)}{_tables(command)}"


def _part(name: str, target: Any) -> object:  # noqa: ANN401 - an entry point may name anything
    """Return the command of another part of the distribution, for which the client has only a stand-in."""
    if isinstance(target, typer.Typer):
        return typer.main.get_command(target)
    app = typer.Typer(add_completion=False)
    app.command(name)(target)
    return typer.main.get_command(app)


def _usage(path: str, command: TyperCommand) -> str:
    names = [_argument(item) for item in command.params if isinstance(item, TyperArgument)]
    return f"```text\n{' '.join([path, '[OPTIONS]', *names])}\n```\n\n"


def _argument(item: TyperArgument) -> str:
    name = (item.metavar or item.name or "").upper() + ("..." if item.nargs == -1 else "")
    return name if item.required else f"[{name}]"


def _tables(command: TyperCommand) -> str:
    arguments = [item for item in command.params if isinstance(item, TyperArgument)]
    shown = table(("argument", ""), ((code(_argument(item)), item.help or "") for item in arguments))
    for panel in dict.fromkeys(item.rich_help_panel for item in command.params if isinstance(item, TyperOption)):
        options = table(("option", "value", ""), _options(command, panel))
        shown += (f"**{panel}**\n\n" if panel else "") + options if options else ""
    return shown


def _options(command: TyperCommand | TyperGroup, panel: str | None = None) -> Iterator[tuple[str, str, str]]:
    """Yield the rows for the options in one panel of `--help`."""
    for item in command.params:
        if not isinstance(item, TyperOption) or item.hidden or item.rich_help_panel != panel or item.name == "help":
            continue
        about = [as_sentence(item.help or "")]
        about += [f"Environment: {code(str(item.envvar))}."] if item.envvar else []
        about += ["Required."] if item.required else []
        yield ", ".join(code(flag) for flag in (*item.opts, *item.secondary_opts)), _value(item), " ".join(about)


def _value(item: TyperOption) -> str:
    """Return the kind of value an option takes; empty for a flag."""
    if item.is_flag:
        return ""
    if item.metavar:
        return code(item.metavar)
    declared: Any = item.type_descriptor.annotation
    kind = next((kind for kind in (*get_args(declared), declared) if kind is not type(None)), declared)
    if get_origin(declared) is Literal:
        return code("|".join(get_args(declared)))
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return code("|".join(str(member.value) for member in kind))
    return code(_KINDS.get(kind, getattr(kind, "__name__", str(kind)).upper()))
