"""Owns the requests that score texts: pairs, rankings and moderation."""

from collections.abc import Mapping, Sequence

from headmix.http.request import Request, parser_of
from headmix.types.inference.scoring import Moderation, Ranking, Scores


def rerank(
    query: str,
    documents: Sequence[str | Mapping[str, str]],
    *,
    model: str,
    top_n: int | None = None,
    return_documents: bool | None = None,
    split_special_tokens: bool | None = None,
) -> Request[Ranking]:
    """Order documents by how well they answer a query, and return the best `top_n`, by default all.

    With `split_special_tokens`, special tokens in the texts are plain text; None means the server's setting.
    """
    body: dict[str, object] = {"model": model, "query": query, "documents": list(documents)}
    options = {"top_n": top_n, "return_documents": return_documents, "split_special_tokens": split_special_tokens}
    return Request("POST", "/v1/rerank", parser_of(Ranking), json=body | _given(options))


def score(
    text_1: str | Sequence[str],
    text_2: str | Sequence[str],
    *,
    model: str,
    split_special_tokens: bool | None = None,
) -> Request[Scores]:
    """Score pairs of texts: one text with each of the second ones, or as many as there are second ones.

    With `split_special_tokens`, special tokens in the texts are plain text; None means the server's setting.
    """
    body: dict[str, object] = {"model": model, "text_1": text_1, "text_2": text_2}
    options = {"split_special_tokens": split_special_tokens}
    return Request("POST", "/v1/score", parser_of(Scores), json=body | _given(options))


def moderate(
    input: str | Sequence[str],  # noqa: A002 - the API's own name
    *,
    model: str | None = None,
    split_special_tokens: bool | None = None,
) -> Request[Moderation]:
    """Say which categories of harm each text belongs to.

    `model` names a multi-label adapter of yours; None means the one that the server's operator has named. With
    `split_special_tokens`, special tokens in the texts are plain text; None means the server's setting.
    """
    body: dict[str, object] = {"input": input}
    options = {"model": model, "split_special_tokens": split_special_tokens}
    return Request("POST", "/v1/moderations", parser_of(Moderation), json=body | _given(options))


def _given(options: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in options.items() if value is not None}
