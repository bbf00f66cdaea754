"""The name of the adapter that a job makes: its `suffix` in the form of a name, or a new one."""

import re
import secrets

from headmix_server.catalog.names import is_name
from headmix_server.core.errors import InvalidRequest

LONGEST = 63
_FOREIGN = re.compile(r"[^a-z0-9._-]+")


def adapter_name(suffix: str | None, base: str) -> str:
    """Return the adapter's name: the suffix in lower case, with `-` for what names don't have.

    Raises:
        InvalidRequest: nothing of the suffix remains, or it is the base's name.
    """
    if suffix is None:
        return f"ft-{secrets.token_hex(4)}"
    name = _FOREIGN.sub("-", suffix.lower()).strip("-._")[:LONGEST]
    if not is_name(name):
        raise InvalidRequest("suffix needs at least one letter a-z or digit: it names the adapter.", param="suffix")
    if name == base:
        raise InvalidRequest(f"The name {name!r} belongs to the base; choose another suffix.", param="suffix")
    return name
