"""Owns how an adapter is addressed: its name in the path, and the tenant that shares it in the query."""

from headmix.http.request import segment

ADAPTERS = "/v1/adapters"


def path(name: str, *parts: str | int) -> str:
    """Return the path of `name` or `owner/name` with a suffix.

    Raises:
        InvalidArgumentError: the name is empty, or would address another path.
    """
    return "/".join((ADAPTERS, segment(name.rpartition("/")[2]), *map(str, parts)))


def owner(name: str) -> dict[str, str | int]:
    """Return the query that names the adapter's owner; empty for the caller's own."""
    owner, slash, _ = name.rpartition("/")
    return {"owner": owner} if slash else {}
