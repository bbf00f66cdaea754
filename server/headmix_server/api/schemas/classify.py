"""Bodies of /v1/classify, in vLLM's shape with two additions for other kinds of heads."""

from collections.abc import Sequence
from typing import ClassVar, Literal

from headmix_server.api.schemas.adapted import AdaptedBody
from headmix_server.api.schemas.body import ResponseBody
from headmix_server.api.schemas.common import Usage
from headmix_server.api.schemas.neutral import CLASSIFY, Neutral
from headmix_server.api.schemas.prompt_input import PromptInput, as_prompts
from headmix_server.api.schemas.truncation import TruncatingBody


class ClassifyRequest(AdaptedBody, TruncatingBody):
    """Classify one or more texts, each given as text or as token ids."""

    neutral: ClassVar[Neutral] = CLASSIFY
    drops_null: ClassVar[bool] = True
    keeps_first: ClassVar[bool] = True

    input: PromptInput
    split_special_tokens: bool | None = None

    @property
    def inputs(self) -> list[str | Sequence[int]]:
        """The texts, one per entry."""
        return as_prompts(self.input)

    @property
    def num_inputs(self) -> int:
        """See `ModelBody`."""
        return len(self.inputs)


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
