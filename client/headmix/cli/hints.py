"""Owns the line below an error that says what to do next: a similar name, a missing key, a server to start."""

from contextlib import suppress
from difflib import get_close_matches

from headmix.client import Client
from headmix.errors import APIConnectionError, AuthenticationError, HeadmixError, NotFoundError
from headmix.local_server import DATA_DIR_VARIABLE, LocalKey, is_local

MAX_LISTED = 8
MAX_SUGGESTED = 3


def missing_model(client: Client, asked: str) -> str | None:
    """Return a hint for an unknown name; it only considers names that this key may see."""
    with suppress(HeadmixError):
        return suggest(asked, [model.id for model in client.models.list()])
    return None


def suggest(asked: str, names: list[str]) -> str:
    """Return the names most similar to the requested one, or all names if there are only a few."""
    name, _, version = asked.partition("@")
    if version and name in names:
        return f"{name} has no version {version} that can be named; `headmix adapters versions {name}` lists them"
    by_last = {full.rpartition("/")[2]: full for full in names}
    close = get_close_matches(name, [*names, *by_last], n=2 * MAX_SUGGESTED, cutoff=0.6)
    meant = list(dict.fromkeys(by_last.get(one, one) for one in close))[:MAX_SUGGESTED]
    if meant:
        return f"did you mean {' or '.join(meant)}?"
    if len(names) <= MAX_LISTED:
        return f"you can ask {', '.join(names)}"
    return "`headmix models` lists what you can ask"


def missing_key(base_url: str, sent: LocalKey | None, *, own: bool) -> str | None:
    """Return a hint on where to get a key if none was given; `sent` is the one that was found instead."""
    if own:
        return None
    if sent is not None:
        return f"the key sent was the one in {sent.file}; use --api-key or HEADMIX_API_KEY for another one"
    if not is_local(base_url):
        return "give a key with --api-key or HEADMIX_API_KEY"
    return (
        "give a key with --api-key or HEADMIX_API_KEY, or run this in the folder where the server was started "
        f"({DATA_DIR_VARIABLE} names its data folder): its key is then found there"
    )


def hint_for(
    error: Exception, client: Client, base_url: str, asked: str | None, sent: LocalKey | None, *, own_key: bool
) -> str | None:
    """Return the line to print below an error, or None if there is nothing to add."""
    if isinstance(error, NotFoundError) and error.code == "model_not_found" and asked:
        return missing_model(client, asked)
    if isinstance(error, AuthenticationError):
        return missing_key(base_url, sent, own=own_key)
    if isinstance(error, APIConnectionError) and not error.sent and is_local(base_url):
        return "`headmix serve` (or `make serve`) starts one; --base-url or HEADMIX_BASE_URL names another"
    return None


def asked_for(parameters: dict[str, object]) -> str | None:
    """Return the model or adapter that a command was called with."""
    asked = parameters.get("model") or parameters.get("name")
    return None if asked is None else str(asked)
