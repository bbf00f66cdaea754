"""How a finished adapter reaches a server: through the command that runs training, which knows no server itself.

The `headmix` command passes its session to plug-in commands as the context object; this is the part of the session that
training uses. With `python -m headmix_adapters.train` there is no session.
"""

from pathlib import Path
from typing import Protocol, runtime_checkable


@runtime_checkable
class Publisher(Protocol):
    """A connection to a server. Its methods report errors themselves and then end the command (typer.Exit)."""

    def check_access(self) -> None:
        """Make sure that the server responds and accepts the key."""

    def push_adapter(self, name: str, file: Path) -> str:
        """Upload an artifact and return the version it became."""
