"""Owns the request that classifies texts."""

from collections.abc import Sequence

from headmix.http.request import Request, parser_of
from headmix.types.inference.classification import Classification
from headmix.types.params import Prompt, ScaledAdapter


def classify(
    input: Prompt,  # noqa: A002 - the API's own name
    *,
    model: str,
    split_special_tokens: bool | None = None,
    truncate_prompt_tokens: int | None = None,
    adapters: Sequence[ScaledAdapter] | None = None,
) -> Request[Classification]:
    """Classify one text or several with a classification adapter; `data` keeps the order of the inputs.

    With `split_special_tokens`, special tokens in the texts are plain text; None means the server's setting. Of longer
    texts, `truncate_prompt_tokens` keeps that many of the first tokens, or with -1 as many as fit. The terms of
    `adapters` are added up, and the first one's head is used; `model` then names the base, or that one.
    """
    options: dict[str, object] = {
        "split_special_tokens": split_special_tokens,
        "truncate_prompt_tokens": truncate_prompt_tokens,
        "adapters": None if adapters is None else list(adapters),
    }
    given = {name: value for name, value in options.items() if value is not None}
    body: dict[str, object] = {"model": model, "input": input, **given}
    return Request("POST", "/v1/classify", parser_of(Classification), json=body)
