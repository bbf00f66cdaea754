"""Owns the request that makes vectors of texts."""

from typing import Literal

from headmix.request import Request, parser_of
from headmix.types.embedding import Embeddings
from headmix.types.params import Prompt

Pooling = Literal["mean", "last", "cls"]


def embed(
    input: Prompt,  # noqa: A002 - the wire's own name
    *,
    model: str,
    pooling: Pooling | None = None,
    normalize: bool | None = None,
) -> Request[Embeddings]:
    """Make a vector of one text or several, given as text or as token ids; the result keeps the order of the inputs.

    `pooling` and `normalize` are the server's own choice for its base where they are None.
    """
    # A number as text takes twice the room of its bytes and more.
    body: dict[str, object] = {"model": model, "input": input, "encoding_format": "base64"}
    if pooling is not None:
        body["pooling"] = pooling
    if normalize is not None:
        body["normalize"] = normalize
    return Request("POST", "/v1/embeddings", parser_of(Embeddings), json=body)
