"""Owns the arguments that several commands take."""

from typing import Annotated

import typer

AdapterName = Annotated[str, typer.Argument(help="The adapter's name; OWNER/NAME of one that is shared with you.")]
