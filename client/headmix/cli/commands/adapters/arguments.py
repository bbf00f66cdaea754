"""Owns the arguments that several commands share: an adapter's name, with or without a version."""

import re
from typing import Annotated, NamedTuple

import typer

_NUMBERED = re.compile(r"(?P<name>[^@]+)@(?P<version>[1-9][0-9]{0,17})")


class Named(NamedTuple):
    """An adapter and one of its versions; None means the current one, or the command's own default."""

    name: str
    version: int | None

    def __str__(self) -> str:
        return self.name if self.version is None else f"{self.name}@{self.version}"


def parse_named(text: str) -> Named:
    """Parse `NAME` or `NAME@3`."""
    if "@" not in text:
        return Named(text, None)
    match = _NUMBERED.fullmatch(text)
    if match is None:
        raise typer.BadParameter(f"{text!r} is not NAME or NAME@VERSION, for example support@3")
    return Named(match["name"], int(match["version"]))


def parse_bare(text: str) -> str:
    """Parse a name and refuse a version, for commands about the whole adapter."""
    if "@" in text:
        name = text.partition("@")[0]
        raise typer.BadParameter(f"this applies to the whole adapter, not one version: give only its name, {name!r}")
    return text


def version_of(named: Named, option: int | None) -> int | None:
    """Return the version given in the name or the option.

    Raises:
        BadParameter: they differ.
    """
    if None not in (named.version, option) and named.version != option:
        raise typer.BadParameter(f"{named} and --version {option} are different versions")
    return named.version if option is None else option


AdapterName = Annotated[
    str,
    typer.Argument(parser=parse_bare, metavar="NAME", help="The adapter's name; OWNER/NAME if it is shared with you."),
]
AdapterVersionName = Annotated[
    Named,
    typer.Argument(
        parser=parse_named,
        metavar="NAME[@VERSION]",
        help="The adapter, or one version as NAME@3; OWNER/NAME if it is shared with you.",
    ),
]
VersionOption = Annotated[int | None, typer.Option("--version", min=1, help="Same as NAME@VERSION.")]
