"""The `headmix` command: the client's sub-commands, and those of every other installed part.

Does not load the other parts until one of their commands is run; see `plugins`.
"""

from headmix.cli.app import build_app

__all__ = ["build_app", "main"]


def main() -> None:
    """Run this process's command line."""
    build_app()(prog_name="headmix")
