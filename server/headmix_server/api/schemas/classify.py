"""Bodies of /v1/classify, in vLLM's shape with two additions for other kinds of heads."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from headmix_server.api.schemas.body import ModelBody, ResponseBody
from headmix_server.api.schemas.common import OneOrMore, Text, Usage
from headmix_server.api.schemas.neutral import CLASSIFY, Neutral


class ClassifyRequest(ModelBody):
    """Classify one or more texts."""

    neutral: ClassVar[Neutral] = CLASSIFY
    drops_null: ClassVar[bool] = True

    input: Annotated[list[Text], Field(min_length=1, fail_fast=True), OneOrMore]
    split_special_tokens: bool | None = None

    @property
    def num_inputs(self) -> int:
        """See `ModelBody`."""
        return len(self.input)


class Classification(ResponseBody):
    """The scores of one text, in the order of the adapter's labels.

    `label` is the most probable one. The `probs` of a multi-label head are independent, and `labels` lists those of at
    least 0.5; the single entry in the `probs` of a regression head is the raw value.
    """

    index: int
    label: str
    probs: list[float]
    num_classes: int
    labels: list[str] | None = None


class ClassifyResponse(ResponseBody):
    """The scores of all texts, in the order of the request."""

    id: str
    object: Literal["list"] = "list"
    created: int
    model: str
    data: list[Classification]
    usage: Usage
