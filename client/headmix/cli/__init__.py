"""The `headmix` command: the client's sub-commands, and those of every other installed part.

Loads nothing of the other parts before one of their commands is run; see `plugins`.
"""

from headmix.cli.app import build_app

__all__ = ["build_app", "main"]


def main() -> None:
    """Run the command line of this process."""
    build_app()(prog_name="headmix")
