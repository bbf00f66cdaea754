"""The forms of a prompt or an input: one text or several, each as text or as token ids.

The first entry distinguishes the four shapes before anything is validated, so that a malformed body gives one error
rather than one per entry and shape.
"""

from array import array
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag

from headmix_server.api.schemas.common import LARGEST, Text
from headmix_server.api.schemas.numbers import AllWhole

TokenId = Annotated[int, Field(ge=0, le=LARGEST)]
TokenIds = Annotated[list[TokenId], Field(fail_fast=True), AllWhole]

_TEXT, _TEXTS, _TOKENS, _TOKEN_LISTS = "<text>", "<texts>", "<tokens>", "<token lists>"


def _shape(given: object) -> str | None:
    if isinstance(given, str):
        return _TEXT
    if not isinstance(given, list):
        return None
    first = given[0] if given else ""
    if isinstance(first, str):
        return _TEXTS
    if isinstance(first, list):
        return _TOKEN_LISTS
    return _TOKENS if isinstance(first, int | float) else None


PromptInput = Annotated[
    Annotated[Text, Tag(_TEXT)]
    | Annotated[list[Text], Field(fail_fast=True), Tag(_TEXTS)]
    | Annotated[TokenIds, Tag(_TOKENS)]
    | Annotated[list[TokenIds], Field(fail_fast=True), Tag(_TOKEN_LISTS)],
    Discriminator(
        _shape,
        custom_error_type="prompt_shape",
        custom_error_message="Input should be a text, a list of texts, a list of token ids, or a list of such lists",
    ),
]
"""One text or several, each as text or as token ids."""


class TooManyIds(Sequence[int]):
    """More token ids than any context holds; they were left in the worker, and only their number is known."""

    def __init__(self, number: int) -> None:
        self._number = number

    def __len__(self) -> int:
        return self._number

    def __getitem__(self, index: object) -> Any:  # noqa: ANN401 - the protocol's signature
        raise TypeError("these token ids were not kept")


def as_prompts(given: str | list[str] | list[int] | list[list[int]]) -> list[str | Sequence[int]]:
    """Return the texts of a `PromptInput`, one per entry; in a large body, token ids are arrays (`body_job`)."""
    if isinstance(given, str | array | TooManyIds):
        return [given]
    if given and isinstance(given[0], int):
        return [[token for token in given if isinstance(token, int)]]
    return [prompt for prompt in given if not isinstance(prompt, int)]
