"""POST /v1/rerank and POST /v1/score, also under the names that other servers have for them."""

import secrets
import time

from fastapi import APIRouter, Request

from headmix_server.api.dependencies import State
from headmix_server.api.inference.pair_scores import Pair, score_pairs
from headmix_server.api.inference.prepare import prepare
from headmix_server.api.inference.resolve import pair_scorer
from headmix_server.api.inference.tenant_limits import Admitted
from headmix_server.api.middleware.guard import GuardedRoute
from headmix_server.api.schemas.pairs import (
    Ranked,
    RankedDocument,
    RerankRequest,
    RerankResponse,
    Score,
    ScoreRequest,
    ScoreResponse,
)
from headmix_server.core.errors import InvalidRequest

router = APIRouter(tags=["pairs"], route_class=GuardedRoute)


@router.post("/rerank", include_in_schema=False, response_model_exclude_none=True)
@router.post("/v2/rerank", include_in_schema=False, response_model_exclude_none=True)
@router.post("/v1/rerank", response_model_exclude_none=True)
async def rerank(request: Request, body: RerankRequest, admission: Admitted, state: State) -> RerankResponse:
    """Order documents by how well they answer a query."""
    prepared = await prepare(request, body, admission, state, pair_scorer)
    if not body.query:
        raise InvalidRequest("The query is empty.", param="query")
    texts = body.texts
    scored = await score_pairs(
        prepared, [(body.query, text) for text in texts], split=body.split_special_tokens, param="documents"
    )
    order = sorted(range(len(texts)), key=lambda place: -scored.scores[place])
    shown = body.return_documents is not False
    return RerankResponse(
        id=f"rerank-{secrets.token_hex(12)}",
        model=body.model,
        method=scored.method,
        usage=scored.usage,
        results=[
            Ranked(
                index=place,
                document=RankedDocument(text=texts[place]) if shown else None,
                relevance_score=scored.scores[place],
            )
            for place in order[: body.top_n or None]
        ],
    )


@router.post("/score", include_in_schema=False)
@router.post("/v1/score")
async def score(request: Request, body: ScoreRequest, admission: Admitted, state: State) -> ScoreResponse:
    """Score pairs of texts: how well the second answers the first, or how similar they are."""
    pairs = pairs_of(body)
    prepared = await prepare(request, body, admission, state, pair_scorer)
    scored = await score_pairs(prepared, pairs, split=body.split_special_tokens, param=body.inputs_param)
    return ScoreResponse(
        id=f"score-{secrets.token_hex(12)}",
        created=int(time.time()),
        model=body.model,
        method=scored.method,
        data=[Score(index=index, score=value) for index, value in enumerate(scored.scores)],
        usage=scored.usage,
    )


def pairs_of(body: ScoreRequest) -> list[Pair]:
    """Return the pairs: each first text with its second one, or a single first text with all second ones.

    Raises:
        InvalidRequest: a list is missing, given by both of its names, or of another length.
    """
    first, second = body.params
    if "queries" in body.params and not (body.text_1 is None and body.text_2 is None):
        raise InvalidRequest("text_1 and text_2 are other names of queries and documents; use one pair.", param=first)
    firsts, seconds = _texts(body, first), _texts(body, second)
    if len(firsts) not in (1, len(seconds)):
        raise InvalidRequest(
            f"{first} has {len(firsts)} texts and {second} has {len(seconds)}: give one text, or as many.", param=first
        )
    return list(zip(firsts * len(seconds) if len(firsts) == 1 else firsts, seconds, strict=True))


def _texts(body: ScoreRequest, param: str) -> list[str]:
    texts: list[str] | None = getattr(body, param)
    if not texts:
        raise InvalidRequest(f"{param} is required and may not be empty.", param=param)
    return texts
