"""Owns the requests that ask how the server is."""

from headmix.http.request import Request, parser_of
from headmix.types.health import Health, Readiness


def get_health() -> Request[Health]:
    """Whether the server process answers at all."""
    return Request("GET", "/healthz", parser_of(Health))


def get_readiness() -> Request[Readiness]:
    """Whether requests are served now. Not being ready is an answer (`.ready`, `.reason`), not an error."""
    return Request("GET", "/readyz", parser_of(Readiness), answers=frozenset({503}))
