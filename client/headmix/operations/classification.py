"""Owns the request that classifies texts."""

from headmix.request import Request, parser_of
from headmix.types.classification import Classification


def classify(input: str | list[str], *, model: str) -> Request[Classification]:  # noqa: A002 - the wire's own name
    """Classify one text or several with a classification adapter; `data` keeps the order of the inputs."""
    return Request("POST", "/v1/classify", parser_of(Classification), json={"model": model, "input": input})
