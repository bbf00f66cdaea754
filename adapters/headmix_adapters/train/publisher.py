"""How a finished adapter reaches a server: through the command that runs it; training knows no server.

The `headmix` command gives every command of another part its session as context object; this is what training asks of
it. Run as `python -m headmix_adapters.train` there is none.
"""

from pathlib import Path
from typing import Protocol, runtime_checkable


@runtime_checkable
class Publisher(Protocol):
    """A way to a server. Its methods report what goes wrong by themselves, and then end the command (typer.Exit)."""

    def check_access(self) -> None:
        """Make sure that a server answers and takes the key."""

    def push_adapter(self, name: str, file: Path) -> str:
        """Upload an artifact; return which version it became."""
