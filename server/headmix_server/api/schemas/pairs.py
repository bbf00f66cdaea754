"""Bodies of /v1/rerank, in the shape that Cohere, Jina and vLLM share, and of /v1/score, in vLLM's."""

from typing import Annotated, ClassVar, Literal

from pydantic import Discriminator, Field, Tag

from headmix_server.api.schemas.body import ModelBody, RequestBody, ResponseBody
from headmix_server.api.schemas.common import LARGEST, OneOrMore, Text, Usage
from headmix_server.api.schemas.neutral import CLASSIFY, Neutral
from headmix_server.api.schemas.numbers import Whole

Method = Literal["cross-encoder", "cosine"]
"""How pairs were scored: both texts read together by the model's head, or the cosine of their embeddings."""

Texts = Annotated[list[Text], Field(fail_fast=True), OneOrMore]
_TEXT, _OBJECT = "<text>", "<object>"


class DocumentBody(RequestBody):
    """A document as an object."""

    drops_null: ClassVar[bool] = True

    text: Text


def _kind(document: object) -> str | None:
    return _TEXT if isinstance(document, str) else _OBJECT if isinstance(document, dict | DocumentBody) else None


Document = Annotated[
    Annotated[Text, Tag(_TEXT)] | Annotated[DocumentBody, Tag(_OBJECT)],
    Discriminator(
        _kind,
        custom_error_type="document_shape",
        custom_error_message="Input should be a text or an object with a text",
    ),
]


class RerankRequest(ModelBody):
    """Order documents by how well they answer a query."""

    neutral: ClassVar[Neutral] = CLASSIFY
    drops_null: ClassVar[bool] = True

    query: Text
    documents: Annotated[list[Document], Field(fail_fast=True)]
    top_n: Annotated[int, Field(ge=0, le=LARGEST), Whole] | None = Field(
        None, description="How many documents to return; by default, and with 0, all."
    )
    return_documents: bool | None = Field(None, description="Whether results contain the documents; true by default.")
    split_special_tokens: bool | None = None

    @property
    def texts(self) -> list[str]:
        """The documents' texts."""
        return [document if isinstance(document, str) else document.text for document in self.documents]

    @property
    def num_inputs(self) -> int:
        """See `ModelBody`."""
        return len(self.documents)

    @property
    def inputs_param(self) -> str:
        """See `ModelBody`."""
        return "documents"


class RankedDocument(ResponseBody):
    """A document of the request."""

    text: str


class Ranked(ResponseBody):
    """One document's score; `index` is its place in the request."""

    index: int
    document: RankedDocument | None = None
    relevance_score: float


class RerankResponse(ResponseBody):
    """The documents, the best first."""

    id: str
    model: str
    method: Method
    usage: Usage
    results: list[Ranked]


class ScoreRequest(ModelBody):
    """Score pairs of texts: `text_1` and `text_2`, or by their other names `queries` and `documents`.

    A single first text is compared with each of the second ones.
    """

    neutral: ClassVar[Neutral] = CLASSIFY
    drops_null: ClassVar[bool] = True

    text_1: Texts | None = None
    text_2: Texts | None = None
    queries: Texts | None = None
    documents: Texts | None = None
    split_special_tokens: bool | None = None

    @property
    def params(self) -> tuple[str, str]:
        """The names of the two parameters that hold the texts."""
        return ("text_1", "text_2") if self.queries is None and self.documents is None else ("queries", "documents")

    @property
    def num_inputs(self) -> int:
        """See `ModelBody`; a list that is missing is reported by the route."""
        return max(1, *(len(texts or ()) for texts in (self.text_1, self.text_2, self.queries, self.documents)))

    @property
    def inputs_param(self) -> str:
        """See `ModelBody`."""
        first, second = self.params
        return first if len(getattr(self, first) or ()) > len(getattr(self, second) or ()) else second


class Score(ResponseBody):
    """The score of one pair."""

    index: int
    object: Literal["score"] = "score"
    score: float


class ScoreResponse(ResponseBody):
    """The scores of all pairs, in the order of the request."""

    id: str
    object: Literal["list"] = "list"
    created: int
    model: str
    method: Method
    data: list[Score]
    usage: Usage
