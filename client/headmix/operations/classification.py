"""Owns the request that classifies texts."""

from headmix.http.request import Request, parser_of
from headmix.types.classification import Classification


def classify(
    input: str | list[str],  # noqa: A002 - the API's own name
    *,
    model: str,
    split_special_tokens: bool | None = None,
) -> Request[Classification]:
    """Classify one text or several with a classification adapter; `data` keeps the order of the inputs.

    With `split_special_tokens`, special tokens in the texts are plain text; None means the server's setting.
    """
    body: dict[str, object] = {"model": model, "input": input}
    if split_special_tokens is not None:
        body["split_special_tokens"] = split_special_tokens
    return Request("POST", "/v1/classify", parser_of(Classification), json=body)
