"""Owns a client's configuration: the defaults, the environment variables, and how they are resolved.

Knows nothing about requests. The environment is read when a client is created, never at import.
"""

import os
from dataclasses import dataclass, field

import httpx2

from headmix.errors import InvalidArgumentError
from headmix.local_server import is_local
from headmix.version import version

DEFAULT_BASE_URL = "http://127.0.0.1:8000"
BASE_URL_VARIABLE = "HEADMIX_BASE_URL"
API_KEY_VARIABLE = "HEADMIX_API_KEY"

# Seconds. A generation waiting in the server's queue sends nothing in the meantime, so the read timeout is long.
DEFAULT_TIMEOUT = 600.0
CONNECT_TIMEOUT = 5.0

DEFAULT_MAX_RETRIES = 2
RETRY_INITIAL_DELAY = 0.5
RETRY_MAX_DELAY = 8.0
# If a server asks for a longer pause than this, the error is raised instead of waiting.
RETRY_AFTER_MAX = 60.0

Timeout = float | httpx2.Timeout | None


@dataclass(frozen=True, slots=True)
class Settings:
    """A client's resolved configuration; `base_url` ends neither in a slash nor in `/v1`."""

    base_url: str
    api_key: str | None = field(repr=False)
    timeout: httpx2.Timeout
    max_retries: int

    @classmethod
    def resolve(cls, base_url: str | None, api_key: str | None, timeout: Timeout, max_retries: int) -> "Settings":
        """Fill in what was not given, from the environment and then from the defaults.

        Raises:
            InvalidArgumentError: a URL that is not http(s), a key that no header can carry, or a negative count.
        """
        if max_retries < 0:
            raise InvalidArgumentError(f"max_retries must be 0 or more, not {max_retries}")
        return cls(
            base_url=_checked_url(base_url or os.environ.get(BASE_URL_VARIABLE) or DEFAULT_BASE_URL),
            api_key=_checked_key(api_key or os.environ.get(API_KEY_VARIABLE)),
            timeout=_as_timeout(timeout),
            max_retries=max_retries,
        )

    @property
    def minds_proxies(self) -> bool:
        """Return whether the environment's proxies apply to this server: one on this machine is reached directly."""
        return not is_local(self.base_url)

    def headers(self) -> dict[str, str]:
        """Return the headers that every request carries."""
        headers = {"User-Agent": f"headmix-python/{version()}", "Accept": "application/json, text/event-stream"}
        if self.api_key is not None:
            headers["Authorization"] = f"Bearer {self.api_key}"
        return headers


def _checked_url(base_url: str) -> str:
    try:
        url = httpx2.URL(base_url)
    except httpx2.InvalidURL as error:
        raise InvalidArgumentError(f"base URL {base_url!r} is not a URL: {error}") from error
    if url.scheme not in {"http", "https"} or not url.host:
        raise InvalidArgumentError(f"base URL {base_url!r} must look like http://host:port")
    return base_url.rstrip("/").removesuffix("/v1")


def _checked_key(api_key: str | None) -> str | None:
    if api_key is None:
        return None
    key = api_key.strip()
    if not key.isascii() or not key.isprintable() or not key:
        raise InvalidArgumentError("the API key must be printable ASCII text")
    return key


def _as_timeout(timeout: Timeout) -> httpx2.Timeout:
    if timeout is None or isinstance(timeout, httpx2.Timeout):
        return httpx2.Timeout(timeout)
    if timeout <= 0:
        raise InvalidArgumentError(f"timeout must be positive seconds, not {timeout}")
    return httpx2.Timeout(timeout, connect=min(timeout, CONNECT_TIMEOUT))
