"""POST /v1/embeddings."""

import base64
import struct
from collections.abc import Sequence

from fastapi import APIRouter, Request

from headmix_adapters.families import usual_pooling
from headmix_server.api.dependencies import State
from headmix_server.api.inference.charging import counted_answer
from headmix_server.api.inference.generation_job import engine_request_id
from headmix_server.api.inference.prompts import read_inputs
from headmix_server.api.inference.resolve import Model, resolve_model
from headmix_server.api.inference.side_by_side import side_by_side
from headmix_server.api.inference.tenant_limits import Admitted
from headmix_server.api.middleware.bounds import bounds_of
from headmix_server.api.middleware.disconnect import until_disconnected
from headmix_server.api.middleware.guard import GuardedRoute
from headmix_server.api.middleware.request_record import RequestRecord, record_of
from headmix_server.api.schemas.embeddings import Embedding, EmbeddingRequest, EmbeddingResponse, EmbeddingUsage
from headmix_server.api.state import ApiState
from headmix_server.core.messages import Embed, Embedded
from headmix_server.core.types import EmbeddingParams

router = APIRouter(tags=["embeddings"], route_class=GuardedRoute)


@router.post("/v1/embeddings")
async def create_embeddings(
    request: Request, body: EmbeddingRequest, admission: Admitted, state: State
) -> EmbeddingResponse:
    """Make a vector of one text or several: the pooled final hidden states of the base or of an adapter on it."""
    record = record_of(request)
    bounds_of(state.settings).check(body)
    model = await resolve_model(request, state, body.model, body.user)
    state.engine.require_ready()
    prompts = await read_inputs(request, state, model, admission.tenant, body.inputs, split=body.split_special_tokens)
    num_tokens = sum(map(len, prompts))
    await admission.reserve(num_tokens, param="input")
    name, params = engine_request_id(record), embedding_params(state, body)
    messages = [
        Embed(
            request_id=f"{name}-{index}",
            tenant=admission.tenant,
            prompt=prompt,
            adapter=model.ref,
            params=params,
            weight=admission.limits.weight,
        )
        for index, prompt in enumerate(prompts)
    ]
    embedded = await until_disconnected(request, _vectors(state, record, model, messages))
    for one in embedded:
        record.queued(one.queue_seconds)
    as_text = body.encoding_format == "base64"
    return EmbeddingResponse(
        data=[
            Embedding(index=index, embedding=packed(one.vector) if as_text else one.vector)
            for index, one in enumerate(embedded)
        ],
        model=body.model,
        usage=EmbeddingUsage(prompt_tokens=num_tokens, total_tokens=num_tokens),
    )


async def _vectors(state: ApiState, record: RequestRecord, model: Model, messages: Sequence[Embed]) -> list[Embedded]:
    if model.ref is not None:
        await state.fetcher.fetch(model.ref.digest, model.ref.tenant)
    return await side_by_side(
        counted_answer(record, place, state.engine, message, Embedded) for place, message in enumerate(messages)
    )


def embedding_params(state: ApiState, body: EmbeddingRequest) -> EmbeddingParams:
    """Return the parameters, where absent as the kind of base is used: encoders by the mean, decoders by the end."""
    usual = EmbeddingParams(pooling=usual_pooling(state.generates), normalize=True)
    return EmbeddingParams(
        pooling=usual.pooling if body.pooling is None else body.pooling,
        normalize=usual.normalize if body.normalize is None else body.normalize,
    )


def packed(vector: Sequence[float]) -> str:
    """Return the base64 of the numbers as little-endian 32-bit floats, as OpenAI writes them."""
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
