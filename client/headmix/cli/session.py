"""Owns what all client commands share: the global options, and the one place that turns errors into an exit code."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import typer

from headmix.cli.hints import asked_for, hint_for
from headmix.cli.output import say, told
from headmix.cli.progress import transfer_bar
from headmix.client import Client
from headmix.config import API_KEY_VARIABLE, BASE_URL_VARIABLE, DEFAULT_BASE_URL
from headmix.errors import APIError, HeadmixError, InvalidAdapterError
from headmix.local_server import LocalKey, find_local_key


@dataclass(frozen=True, slots=True)
class Session:
    """The global options of one invocation; `asked` is the model or adapter the command was called with."""

    base_url: str
    api_key: str | None = field(repr=False)
    asked: str | None = None

    @classmethod
    def with_options(cls, base_url: str | None, api_key: str | None) -> "Session":
        """Return the session for the global options; missing values come from the environment and the defaults."""
        return cls(
            base_url or os.environ.get(BASE_URL_VARIABLE) or DEFAULT_BASE_URL,
            api_key or os.environ.get(API_KEY_VARIABLE),
        )

    @classmethod
    def of(cls, ctx: typer.Context) -> "Session":
        """Return the session built from the global options, for this context's command."""
        session = ctx.find_object(cls)
        if session is None:
            raise TypeError("the command was run outside the command tree that sets up its session")
        return replace(session, asked=asked_for(ctx.params))

    @contextmanager
    def client(self) -> Iterator[Client]:
        """Yield a client; an error inside the block ends the program with exit code 1 and the reason on stderr.

        If no key is given, a server on this machine is sent the key that it wrote when it started.
        """
        try:
            found = None if self.api_key else find_local_key(self.base_url)
            with Client(self.base_url, self.api_key or (found.text if found else None)) as client:
                try:
                    yield client
                except HeadmixError as error:
                    self.report(error, client, found)
                    raise typer.Exit(1) from error
        except BrokenPipeError:
            # The reader of our output is gone: not an error to report.
            raise
        except (HeadmixError, OSError) as error:
            report(error)
            raise typer.Exit(1) from error

    def check_access(self) -> None:
        """Make sure that a server responds and accepts the key; the program ends if not."""
        with self.client() as client:
            client.models.list()

    def push_adapter(self, name: str, file: Path) -> str:
        """Upload an artifact and return its version and digest. The program ends if that fails."""
        with self.client() as client, transfer_bar(f"pushing {file.name}") as progress:
            return told(client.adapters.push(name, file, progress=progress))

    def report(self, error: HeadmixError, client: Client, found: LocalKey | None = None) -> None:
        """Report what went wrong and, if known, what to do about it."""
        hint = hint_for(error, client, self.base_url, self.asked, found, own_key=self.api_key is not None)
        report(error, hint)


def report(error: Exception, hint: str | None = None) -> None:
    """Print on stderr what went wrong: one line, followed by the faults of a refused artifact and the hint."""
    notes = []
    if isinstance(error, APIError):
        notes = [error.code or f"HTTP {error.status}", *([f"request {error.request_id}"] if error.request_id else [])]
    say(f"error: {error}" + (f" ({', '.join(notes)})" if notes else ""), err=True)
    if isinstance(error, InvalidAdapterError):
        for fault in [fault for fault in error.faults if fault not in str(error)]:
            say(f"  - {fault}", err=True)
    if hint:
        say(f"  {hint}", err=True)
