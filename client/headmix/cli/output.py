"""Owns how responses and lists are printed: tables and lines for people, JSON for programs."""

import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from itertools import zip_longest
from typing import Annotated

import typer
from pydantic import BaseModel, TypeAdapter
from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from headmix.cli.printable import printable, printable_json
from headmix.types.adapter import Adapter

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]

UNBOUNDED_WIDTH = 10_000

_ANY: TypeAdapter[object] = TypeAdapter(object)


def say(text: str, *, err: bool = False) -> None:
    """Print a line; text from the server or a file cannot control the terminal."""
    typer.echo(printable(text, lines=True), err=err)


def pass_on(text: str) -> None:
    """Print a piece of a model's output: unchanged to a file or pipe, escaped on a terminal to keep it harmless."""
    sys.stdout.write(printable(text, lines=True) if sys.stdout.isatty() else text)
    sys.stdout.flush()


def print_json(value: BaseModel | Sequence[BaseModel]) -> None:
    """Print one object, or a list of them, with the server's fields."""
    typer.echo(printable_json(_ANY.dump_json(value, indent=2).decode()))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows under column names; None shows as `-`. Cells are data, so nothing in them is interpreted as markup.

    The lines of a table wider than the terminal are left for the terminal to wrap: columns squeezed to a few letters
    each could not be read or copied.
    """
    table = Table(*columns, box=box.SIMPLE_HEAD, pad_edge=False)
    for row in rows:
        table.add_row(*(_cell(value) for value in row))
    console = Console()
    needed = Measurement.get(console, console.options.update(max_width=UNBOUNDED_WIDTH), table).maximum
    Console(width=max(console.width, needed)).print(table, soft_wrap=True)


def print_fields(fields: Iterable[tuple[str, object]]) -> None:
    """Print names and values, one pair per line; further lines of a value stay in its column; None is omitted."""
    shown = [(name, str(value).split("\n")) for name, value in fields if value is not None]
    width = max((len(name) for name, _ in shown), default=0)
    for name, lines in shown:
        for title, line in zip_longest([name], lines, fillvalue=""):
            typer.echo(f"{title:<{width}}  {printable(line)}")


def _cell(value: object) -> Text:
    return Text("-" if value is None else printable(str(value), lines=True), overflow="fold")


def reference(adapter: Adapter) -> str:
    """Return the version's name in the form every command takes."""
    return f"{adapter.name}@{adapter.version}"


def told(adapter: Adapter) -> str:
    """Return exactly which version of an adapter this is, as one line of text."""
    return f"{reference(adapter)} {adapter.digest}"


def short(digest: str | None) -> str | None:
    """Return a digest's first 12 digits, the form people quote."""
    return None if digest is None else digest.removeprefix("sha256:")[:12]


def moment(unix: int) -> str:
    """Return a Unix time as UTC date, hour and minute."""
    return datetime.fromtimestamp(unix, UTC).strftime("%Y-%m-%d %H:%M")


def size(count: int) -> str:
    """Return a number of bytes in readable form."""
    amount = float(count)
    for unit in ("B", "kB", "MB"):
        if amount < 1000:
            return f"{amount:.4g} {unit}"
        amount /= 1000
    return f"{amount:.4g} GB"
