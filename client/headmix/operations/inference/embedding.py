"""Owns the request that embeds texts."""

from collections.abc import Sequence
from typing import Literal

from headmix.http.request import Request, parser_of
from headmix.types.inference.embedding import Embeddings
from headmix.types.params import Prompt, ScaledAdapter

Pooling = Literal["mean", "last", "cls"]


def embed(
    input: Prompt,  # noqa: A002 - the API's own name
    *,
    model: str,
    pooling: Pooling | None = None,
    normalize: bool | None = None,
    split_special_tokens: bool | None = None,
    truncate_prompt_tokens: int | None = None,
    adapters: Sequence[ScaledAdapter] | None = None,
) -> Request[Embeddings]:
    """Embed one text or several, given as text or as token ids; the result keeps the order of the inputs.

    For `pooling` and `normalize`, None means the server's default for its base. With `split_special_tokens`, special
    tokens in the texts are plain text; None means the server's setting. Of longer texts, `truncate_prompt_tokens` keeps
    that many of the first tokens, or with -1 as many as fit. The terms of `adapters` are added up; `model` then names
    the base, or the first of them.
    """
    # A number as text takes more than twice the space of its bytes.
    body: dict[str, object] = {"model": model, "input": input, "encoding_format": "base64"}
    options: dict[str, object] = {
        "pooling": pooling,
        "normalize": normalize,
        "split_special_tokens": split_special_tokens,
        "truncate_prompt_tokens": truncate_prompt_tokens,
        "adapters": None if adapters is None else list(adapters),
    }
    body |= {name: value for name, value in options.items() if value is not None}
    return Request("POST", "/v1/embeddings", parser_of(Embeddings), json=body)
