"""Owns how lists are printed: a table for people, JSON for programs."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Annotated

import typer
from pydantic import BaseModel, TypeAdapter
from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from headmix.types.adapter import Adapter

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]

UNBOUNDED_WIDTH = 10_000

_ANY: TypeAdapter[object] = TypeAdapter(object)


def print_json(value: BaseModel | Sequence[BaseModel]) -> None:
    """Print one object, or a list of them, as the server's fields."""
    typer.echo(_ANY.dump_json(value, indent=2).decode())


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows under column names; None shows as `-`. Cells are data, so nothing in them is read as markup.

    A table wider than the terminal keeps its lines whole, for the terminal to wrap: columns squeezed to a few letters
    each could not be read or copied.
    """
    table = Table(*columns, box=box.SIMPLE_HEAD, pad_edge=False)
    for row in rows:
        table.add_row(*(Text("-" if cell is None else str(cell), overflow="fold") for cell in row))
    console = Console()
    needed = Measurement.get(console, console.options.update(max_width=UNBOUNDED_WIDTH), table).maximum
    Console(width=max(console.width, needed)).print(table, soft_wrap=True)


def told(adapter: Adapter) -> str:
    """Exactly which version of an adapter, as one line of text."""
    return f"{adapter.name}@{adapter.version} {adapter.digest}"


def short(digest: str | None) -> str | None:
    """A digest's first 12 digits, as people quote it."""
    return None if digest is None else digest.removeprefix("sha256:")[:12]


def moment(unix: int) -> str:
    """A Unix time as UTC date and minute."""
    return datetime.fromtimestamp(unix, UTC).strftime("%Y-%m-%d %H:%M")


def size(count: int) -> str:
    """A number of bytes as people read it."""
    amount = float(count)
    for unit in ("B", "kB", "MB"):
        if amount < 1000:
            return f"{amount:.4g} {unit}"
        amount /= 1000
    return f"{amount:.4g} GB"
