"""Owns the requests about the server's health."""

from headmix.http.request import Request, parser_of
from headmix.types.health import Health, Readiness


def get_health() -> Request[Health]:
    """Check whether the server process responds at all."""
    return Request("GET", "/healthz", parser_of(Health))


def get_readiness() -> Request[Readiness]:
    """Check whether requests are served now. Not being ready is a result (`.ready`, `.reason`), not an error."""
    return Request("GET", "/readyz", parser_of(Readiness), answers=frozenset({503}))
