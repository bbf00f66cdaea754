"""Bodies of /v1/moderations, in OpenAI's shape; text only."""

from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag

from headmix_server.api.schemas.body import ModelBody, ResponseBody
from headmix_server.api.schemas.common import Text
from headmix_server.api.schemas.messages import TextPart

OPENAI_MODELS = (
    "omni-moderation-latest",
    "omni-moderation-2024-09-26",
    "text-moderation-latest",
    "text-moderation-stable",
    "text-moderation-007",
)
"""The names of OpenAI's models, which mean the operator's adapter here."""

_TEXT, _TEXTS, _PARTS = "<text>", "<texts>", "<parts>"


def _or_operators(model: object) -> object:
    return OPENAI_MODELS[0] if model is None else model


def _shape(given: object) -> str | None:
    if isinstance(given, str):
        return _TEXT
    if not isinstance(given, list):
        return None
    return _PARTS if given and isinstance(given[0], dict | TextPart) else _TEXTS


class ModerationRequest(ModelBody):
    """Classify one or more texts as harmful or not; a list of text parts is one text."""

    drops_null: ClassVar[bool] = True

    model: Annotated[str, BeforeValidator(_or_operators)] = Field(
        OPENAI_MODELS[0], description="A multi-label adapter; by default the one that the server's operator has named."
    )
    input: Annotated[
        Annotated[Text, Tag(_TEXT)]
        | Annotated[list[Text], Field(fail_fast=True), Tag(_TEXTS)]
        | Annotated[list[TextPart], Field(fail_fast=True), Tag(_PARTS)],
        Discriminator(
            _shape,
            custom_error_type="moderation_shape",
            custom_error_message="Input should be a text, a list of texts, or a list of text parts",
        ),
    ]
    split_special_tokens: bool | None = None

    @property
    def texts(self) -> list[str]:
        """The texts, one per result."""
        if isinstance(self.input, str):
            return [self.input]
        texts = [part for part in self.input if isinstance(part, str)]
        parts = [part.text for part in self.input if isinstance(part, TextPart)]
        return ["".join(parts)] if parts else texts

    @property
    def num_inputs(self) -> int:
        """See `ModelBody`; parts of a text count too."""
        return 1 if isinstance(self.input, str) else len(self.input)


class Moderation(ResponseBody):
    """One text's result: each category's probability, and whether it is at least 0.5.

    `flagged`: at least one of them is. The categories are the adapter's labels.
    """

    flagged: bool
    categories: dict[str, bool]
    category_scores: dict[str, float]
    category_applied_input_types: dict[str, list[Literal["text"]]]


class ModerationResponse(ResponseBody):
    """The results of all texts, in the order of the request."""

    id: str
    model: str
    results: list[Moderation]
