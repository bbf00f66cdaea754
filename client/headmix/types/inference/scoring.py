"""Owns the types of what scores texts: pairs, rankings and moderation."""

from headmix.types.result import Part, Result, Usage


class RankedDocument(Part):
    """A document as it was sent."""

    text: str


class RankedItem(Part):
    """One document's score; `index` is its place in the request."""

    index: int
    relevance_score: float
    document: RankedDocument | None = None


class Ranking(Result):
    """The response of POST /v1/rerank: the best document first.

    `method` is "cross-encoder" if the model's head read query and document together, "cosine" if the score is that of
    their embeddings.
    """

    id: str
    model: str
    method: str
    results: tuple[RankedItem, ...]
    usage: Usage | None = None

    @property
    def order(self) -> tuple[int, ...]:
        """The documents' places in the request, the best first."""
        return tuple(item.index for item in self.results)


class ScoreItem(Part):
    """One pair's score."""

    index: int
    score: float


class Scores(Result):
    """The response of POST /v1/score: `data` in the order of the pairs; `method` is as in a `Ranking`."""

    id: str
    created: int
    model: str
    method: str
    data: tuple[ScoreItem, ...]
    usage: Usage | None = None

    @property
    def scores(self) -> tuple[float, ...]:
        """The scores in the order of the pairs."""
        return tuple(item.score for item in self.data)


class ModerationItem(Part):
    """One text's result: each category's probability, and whether it is at least 0.5; `flagged` if one of them is."""

    flagged: bool
    categories: dict[str, bool]
    category_scores: dict[str, float]


class Moderation(Result):
    """The response of POST /v1/moderations: `results` in the order of the texts."""

    id: str
    model: str
    results: tuple[ModerationItem, ...]

    @property
    def flagged(self) -> bool:
        """Whether any of the texts is flagged."""
        return any(item.flagged for item in self.results)
