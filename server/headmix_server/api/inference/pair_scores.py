"""One score for each pair of texts: from the model's head, or as the cosine of the texts' embeddings.

A cross-encoder, an adapter whose head has a single label, reads both texts of a pair together; its score is the number
that /v1/classify gives for the same tokens. Every other model embeds each text by itself.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from operator import mul

from headmix_adapters.families import usual_pooling
from headmix_server.api.inference.prepare import Prepared
from headmix_server.api.inference.resolve import pair_scorer
from headmix_server.api.schemas.common import Usage
from headmix_server.api.schemas.pairs import Method
from headmix_server.core.errors import InternalError, InvalidRequest
from headmix_server.core.types import EmbeddingParams

Pair = tuple[str, str]

_PRODUCTS_AT_ONCE = 64
"""Cosines that are computed before other tasks get a turn."""


@dataclass(frozen=True, slots=True)
class PairScores:
    """The scores in the order of the pairs."""

    method: Method
    scores: list[float]
    num_tokens: int

    @property
    def usage(self) -> Usage:
        """The tokens that were read."""
        return Usage(prompt_tokens=self.num_tokens, completion_tokens=0, total_tokens=self.num_tokens)


async def score_pairs(prepared: Prepared, pairs: Sequence[Pair], *, split: bool | None, param: str) -> PairScores:
    """Return a score for each pair.

    Raises:
        InvalidRequest: the pairs have more characters than a body may have; it names `param`.
        HeadmixServerError: as `Prepared.read_pairs`, `read_inputs`, `classify` and `embed`.
    """
    if pair_scorer(prepared.model) is None:
        return await _by_cosine(prepared, pairs, split, param)
    _require_size(prepared, pairs, param)
    return await _by_head(prepared, pairs, split, param)


def _require_size(prepared: Prepared, pairs: Sequence[Pair], param: str) -> None:
    """Bound the work: a text that is in many pairs is sent once and read with each of them."""
    most = prepared.state.settings.max_body_mib << 20
    size = sum(len(first) + len(second) for first, second in pairs)
    if size > most:
        raise InvalidRequest(
            f"The pairs have {size} characters together; a request may have at most {most}.", param=param
        )


async def _by_head(prepared: Prepared, pairs: Sequence[Pair], split: bool | None, param: str) -> PairScores:
    read = await prepared.read_pairs(pairs, split=split, param=param)
    prompts = [pair.ids for pair in read]
    classified = await prepared.classify(prompts, [pair.second for pair in read])
    return PairScores("cross-encoder", [_only(one.probs) for one in classified], sum(map(len, prompts)))


def _only(scores: Sequence[float]) -> float:
    if len(scores) != 1:
        raise InternalError(f"{len(scores)} scores for one label")
    return scores[0]


async def _by_cosine(prepared: Prepared, pairs: Sequence[Pair], split: bool | None, param: str) -> PairScores:
    places = {text: place for place, text in enumerate(dict.fromkeys(text for pair in pairs for text in pair))}
    prompts = await prepared.read_inputs(list(places), split=split, param=param)
    params = EmbeddingParams(pooling=usual_pooling(prepared.state.generates), normalize=True)
    vectors = [embedded.vector for embedded in await prepared.embed(prompts, params)]
    scores: list[float] = []
    for first, second in pairs:
        scores.append(_cosine(vectors[places[first]], vectors[places[second]]))
        if len(scores) % _PRODUCTS_AT_ONCE == 0:
            await asyncio.sleep(0)
    return PairScores("cosine", scores, sum(map(len, prompts)))


def _cosine(first: Sequence[float], second: Sequence[float]) -> float:
    """Return the product of two vectors of length 1, which rounding may take past 1."""
    product: float = sum(map(mul, first, second))
    return max(-1.0, min(1.0, product))
