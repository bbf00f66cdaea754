"""POST /v1/classify."""

import secrets
import time

from fastapi import APIRouter, Request

from headmix_adapters.config import ClassifierConfig
from headmix_server.api.dependencies import State
from headmix_server.api.inference.prepare import prepare
from headmix_server.api.inference.resolve import require_classification
from headmix_server.api.inference.tenant_limits import Admitted
from headmix_server.api.middleware.guard import GuardedRoute
from headmix_server.api.schemas.classify import Classification, ClassifyRequest, ClassifyResponse
from headmix_server.api.schemas.common import Usage
from headmix_server.core.labels import read_scores

router = APIRouter(tags=["classification"], route_class=GuardedRoute)


@router.post("/v1/classify", response_model_exclude_none=True)
async def classify(request: Request, body: ClassifyRequest, admission: Admitted, state: State) -> ClassifyResponse:
    """Classify one text or several with a classifier adapter."""
    prepared = await prepare(request, body, admission, state, require_classification)
    head = require_classification(prepared.model)
    prompts = await prepared.read_inputs(
        body.inputs, split=body.split_special_tokens, truncate=body.truncate_prompt_tokens
    )
    scores = await prepared.classify(prompts)
    num_tokens = sum(map(len, prompts))
    return ClassifyResponse(
        id=f"classify-{secrets.token_hex(12)}",
        created=int(time.time()),
        model=body.model,
        data=[classification(index, score.probs, head) for index, score in enumerate(scores)],
        usage=Usage(prompt_tokens=num_tokens, completion_tokens=0, total_tokens=num_tokens),
    )


def classification(index: int, probs: list[float], head: ClassifierConfig) -> Classification:
    """Return one text's scores, named by the adapter's labels.

    Raises:
        InternalError: the engine returned a different number of scores than the head has labels.
    """
    label, reached = read_scores(probs, head)
    labels = None if reached is None else list(reached)
    return Classification(index=index, label=label, probs=probs, num_classes=len(probs), labels=labels)
