"""The names of adapters, and the `model` strings that refer to them.

Text only: whether a name exists is up to the catalog.
"""

import re
from collections.abc import Collection
from typing import NamedTuple

from headmix_server.core.errors import InvalidRequest

NAME_PATTERN = r"[a-z0-9][a-z0-9._-]{0,62}"
_NAME = re.compile(NAME_PATTERN)
# Eighteen digits fit a 64-bit integer; a leading zero would give one version two names.
_REFERENCE = re.compile(rf"(?:({NAME_PATTERN})/)?({NAME_PATTERN})(?:@([1-9][0-9]{{0,17}}))?")


class Reference(NamedTuple):
    """A parsed `model` string; `owner` None means the caller, `number` None the current version."""

    owner: str | None
    name: str
    number: int | None


# Matches no adapter: names are never empty and versions start at 1.
NOWHERE = Reference(None, "", 0)


def check_name(name: str, *, reserved: Collection[str] = ()) -> None:
    """Refuse a name that no adapter may have.

    Raises:
        InvalidRequest: it is malformed, or reserved for the base.
    """
    if _NAME.fullmatch(name) is None:
        raise InvalidRequest(
            "A name has 1 to 63 characters of a-z, 0-9, '.', '_' and '-', and starts with a letter or digit.",
            param="name",
        )
    if name in reserved:
        raise InvalidRequest(f"The name {name!r} belongs to the base; choose another.", param="name")


def is_name(text: str) -> bool:
    """Return whether this is a valid name for an adapter or a tenant."""
    return _NAME.fullmatch(text) is not None


def known_form(name: str) -> str:
    """Return the name, or that of `NOWHERE` if it is malformed, such as `name@3`, which names a version."""
    return name if is_name(name) else NOWHERE.name


def parse_reference(model: str) -> Reference:
    """Parse `name`, `name@3`, `owner/name` or `owner/name@3`.

    Anything else becomes `NOWHERE`, so that it is looked up like any other.
    """
    match = _REFERENCE.fullmatch(model)
    if match is None:
        return NOWHERE
    owner, name, number = match.groups()
    return Reference(owner, name, int(number) if number is not None else None)


def parse_adapter(model: str) -> Reference:
    """Parse `name` or `owner/name`; a reference to a version is not an adapter's name."""
    reference = parse_reference(model)
    return reference if reference.number is None else NOWHERE
