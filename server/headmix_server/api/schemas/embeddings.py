"""Bodies of /v1/embeddings, in OpenAI's shape with two additional parameters."""

from collections.abc import Sequence
from typing import ClassVar, Literal

from headmix_adapters.config import Pooling
from headmix_server.api.schemas.adapted import AdaptedBody
from headmix_server.api.schemas.body import ResponseBody
from headmix_server.api.schemas.neutral import EMBEDDINGS, Neutral
from headmix_server.api.schemas.prompt_input import PromptInput, as_prompts
from headmix_server.api.schemas.truncation import TruncatingBody


class EmbeddingRequest(AdaptedBody, TruncatingBody):
    """Embed one or more texts, each given as text or as token ids."""

    neutral: ClassVar[Neutral] = EMBEDDINGS
    drops_null: ClassVar[bool] = True
    keeps_first: ClassVar[bool] = True

    input: PromptInput
    encoding_format: Literal["float", "base64"] | None = None
    pooling: Pooling | None = None
    normalize: bool | None = None
    split_special_tokens: bool | None = None

    @property
    def inputs(self) -> list[str | Sequence[int]]:
        """The texts, one per entry."""
        return as_prompts(self.input)

    @property
    def num_inputs(self) -> int:
        """See `ModelBody`."""
        return len(self.inputs)


class Embedding(ResponseBody):
    """The vector of one text: numbers, or the base64 of little-endian 32-bit floats."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class EmbeddingUsage(ResponseBody):
    """Token counts."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingResponse(ResponseBody):
    """The vectors of all texts, in the order of the request."""

    object: Literal["list"] = "list"
    data: list[Embedding]
    model: str
    usage: EmbeddingUsage
