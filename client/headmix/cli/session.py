"""Owns what all client commands share: the global options, and the one place where errors become an exit code."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import typer

from headmix.cli.output import told
from headmix.cli.progress import transfer_bar
from headmix.client import Client
from headmix.errors import APIError, HeadmixError, InvalidAdapterError


@dataclass(frozen=True, slots=True)
class Session:
    """The global options of one invocation."""

    base_url: str | None
    api_key: str | None = field(repr=False)

    @classmethod
    def of(cls, ctx: typer.Context) -> "Session":
        """The session the global options made."""
        session = ctx.find_object(cls)
        if session is None:
            raise TypeError("the command was run outside the command tree that sets its options")
        return session

    @contextmanager
    def client(self) -> Iterator[Client]:
        """A client; an error inside the block ends the program with one line on stderr and exit code 1."""
        try:
            with Client(self.base_url, self.api_key) as client:
                yield client
        except BrokenPipeError:
            # Whoever read our output went away: not an error to report.
            raise
        except (HeadmixError, OSError) as error:
            report(error)
            raise typer.Exit(1) from error

    def check_access(self) -> None:
        """Make sure that a server answers and takes the key; the program ends where none does."""
        with self.client() as client:
            client.models.list()

    def push_adapter(self, name: str, file: Path) -> str:
        """Upload an artifact; return which version it is, with its digest. The program ends where that fails."""
        with self.client() as client, transfer_bar(f"pushing {file.name}") as progress:
            return told(client.adapters.push(name, file, progress=progress))


def report(error: Exception) -> None:
    """Say on stderr what went wrong: one line, and below it the faults of a refused artifact."""
    notes = []
    if isinstance(error, APIError):
        notes = [error.code or f"HTTP {error.status}", *([f"request {error.request_id}"] if error.request_id else [])]
    typer.echo(f"error: {error}" + (f" ({', '.join(notes)})" if notes else ""), err=True)
    if isinstance(error, InvalidAdapterError):
        for fault in error.faults:
            typer.echo(f"  - {fault}", err=True)
