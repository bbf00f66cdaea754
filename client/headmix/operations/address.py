"""Owns how an adapter is addressed: its name as a path, and the tenant that shares it as a query."""

from headmix.http.request import segment

ADAPTERS = "/v1/adapters"


def path(name: str, *parts: str | int) -> str:
    """The path of `name` or `owner/name`, with what comes behind it; raises InvalidArgumentError for no name."""
    return "/".join((ADAPTERS, segment(name.rpartition("/")[2]), *map(str, parts)))


def owner(name: str) -> dict[str, str | int]:
    """The query that says whose adapter is meant; none for one's own."""
    owner, slash, _ = name.rpartition("/")
    return {"owner": owner} if slash else {}
