"""POST /v1/classify."""

import secrets
import time
from collections.abc import Sequence

from fastapi import APIRouter, Request

from headmix_adapters.config import ClassifierConfig
from headmix_server.api.dependencies import State
from headmix_server.api.inference.charging import counted_answer
from headmix_server.api.inference.generation_job import engine_request_id
from headmix_server.api.inference.prompts import read_inputs
from headmix_server.api.inference.resolve import require_classification, resolve_model
from headmix_server.api.inference.side_by_side import side_by_side
from headmix_server.api.inference.tenant_limits import Admitted
from headmix_server.api.middleware.bounds import bounds_of
from headmix_server.api.middleware.disconnect import until_disconnected
from headmix_server.api.middleware.guard import GuardedRoute
from headmix_server.api.middleware.request_record import RequestRecord, record_of
from headmix_server.api.schemas.classify import Classification, ClassifyRequest, ClassifyResponse
from headmix_server.api.schemas.common import Usage
from headmix_server.api.state import ApiState
from headmix_server.core.errors import InternalError
from headmix_server.core.labels import read_scores
from headmix_server.core.messages import Classified, Classify
from headmix_server.core.types import AdapterRef

router = APIRouter(tags=["classification"], route_class=GuardedRoute)


@router.post("/v1/classify", response_model_exclude_none=True)
async def classify(request: Request, body: ClassifyRequest, admission: Admitted, state: State) -> ClassifyResponse:
    """Classify one text or several with a classifier adapter."""
    record = record_of(request)
    bounds_of(state.settings).check(body)
    model = await resolve_model(request, state, body.model, body.user)
    version, ref = require_classification(model)
    state.engine.require_ready()
    prompts = await read_inputs(request, state, model, admission.tenant, body.input, split=body.split_special_tokens)
    num_tokens = sum(map(len, prompts))
    await admission.reserve(num_tokens, param="input")
    name = engine_request_id(record)
    messages = [
        Classify(
            request_id=f"{name}-{index}",
            tenant=admission.tenant,
            prompt=prompt,
            adapter=ref,
            weight=admission.limits.weight,
        )
        for index, prompt in enumerate(prompts)
    ]
    scores = await until_disconnected(request, _scores(state, record, ref, messages))
    for score in scores:
        record.queued(score.queue_seconds)
    head = version.config.classifier
    if head is None:
        raise InternalError(f"the classifier {version.digest} has no head")
    return ClassifyResponse(
        id=f"classify-{secrets.token_hex(12)}",
        created=int(time.time()),
        model=body.model,
        data=[classification(index, score.probs, head) for index, score in enumerate(scores)],
        usage=Usage(prompt_tokens=num_tokens, completion_tokens=0, total_tokens=num_tokens),
    )


async def _scores(
    state: ApiState, record: RequestRecord, ref: AdapterRef, messages: Sequence[Classify]
) -> list[Classified]:
    await state.fetcher.fetch(ref.digest, ref.tenant)
    return await side_by_side(
        counted_answer(record, place, state.engine, message, Classified) for place, message in enumerate(messages)
    )


def classification(index: int, probs: list[float], head: ClassifierConfig) -> Classification:
    """Return one text's scores in the words of the adapter's labels.

    Raises:
        InternalError: the engine scored another number of labels than the head has.
    """
    label, reached = read_scores(probs, head)
    labels = None if reached is None else list(reached)
    return Classification(index=index, label=label, probs=probs, num_classes=len(probs), labels=labels)
