"""Owns the request that makes vectors of texts."""

from typing import Literal

from headmix.http.request import Request, parser_of
from headmix.types.embedding import Embeddings
from headmix.types.params import Prompt

Pooling = Literal["mean", "last", "cls"]


def embed(
    input: Prompt,  # noqa: A002 - the wire's own name
    *,
    model: str,
    pooling: Pooling | None = None,
    normalize: bool | None = None,
    split_special_tokens: bool | None = None,
) -> Request[Embeddings]:
    """Make a vector of one text or several, given as text or as token ids; the result keeps the order of the inputs.

    `pooling` and `normalize` are the server's own choice for its base where they are None. With `split_special_tokens`
    special tokens in the texts are plain text; None leaves it to the server's setting.
    """
    # A number as text takes twice the room of its bytes and more.
    body: dict[str, object] = {"model": model, "input": input, "encoding_format": "base64"}
    options = {"pooling": pooling, "normalize": normalize, "split_special_tokens": split_special_tokens}
    body |= {name: value for name, value in options.items() if value is not None}
    return Request("POST", "/v1/embeddings", parser_of(Embeddings), json=body)
