"""What a prompt or an input may be: one text or several, each as text or as token ids.

The four shapes are told apart by their first entry before anything is validated, so that a wrong body is one fault and
not one for each entry and shape.
"""

from typing import Annotated

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


def as_prompts(given: str | list[str] | list[int] | list[list[int]]) -> list[str | list[int]]:
    """Return the texts of a `PromptInput`, one per entry."""
    if isinstance(given, str):
        return [given]
    if given and isinstance(given[0], int):
        return [[token for token in given if isinstance(token, int)]]
    return [prompt for prompt in given if not isinstance(prompt, int)]
