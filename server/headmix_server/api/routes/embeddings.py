"""POST /v1/embeddings."""

import base64
import struct
from collections.abc import Sequence

from fastapi import APIRouter, Request

from headmix_adapters.families import usual_pooling
from headmix_server.api.dependencies import State
from headmix_server.api.inference.prepare import prepare
from headmix_server.api.inference.tenant_limits import Admitted
from headmix_server.api.middleware.guard import GuardedRoute
from headmix_server.api.schemas.embeddings import Embedding, EmbeddingRequest, EmbeddingResponse, EmbeddingUsage
from headmix_server.api.state import ApiState
from headmix_server.core.types import EmbeddingParams

router = APIRouter(tags=["embeddings"], route_class=GuardedRoute)


@router.post("/v1/embeddings")
async def create_embeddings(
    request: Request, body: EmbeddingRequest, admission: Admitted, state: State
) -> EmbeddingResponse:
    """Return one vector per text: the pooled final hidden states of the base, alone or with an adapter."""
    prepared = await prepare(request, body, admission, state)
    prompts = await prepared.read_inputs(
        body.inputs, split=body.split_special_tokens, truncate=body.truncate_prompt_tokens
    )
    embedded = await prepared.embed(prompts, embedding_params(state, body))
    num_tokens = sum(map(len, prompts))
    as_text = body.encoding_format == "base64"
    return EmbeddingResponse(
        data=[
            Embedding(index=index, embedding=packed(one.vector) if as_text else one.vector)
            for index, one in enumerate(embedded)
        ],
        model=body.model,
        usage=EmbeddingUsage(prompt_tokens=num_tokens, total_tokens=num_tokens),
    )


def embedding_params(state: ApiState, body: EmbeddingRequest) -> EmbeddingParams:
    """Return the parameters; the default pooling is the mean for encoders and the last token for decoders."""
    usual = EmbeddingParams(pooling=usual_pooling(state.generates), normalize=True)
    return EmbeddingParams(
        pooling=usual.pooling if body.pooling is None else body.pooling,
        normalize=usual.normalize if body.normalize is None else body.normalize,
    )


def packed(vector: Sequence[float]) -> str:
    """Return the base64 of the numbers as little-endian 32-bit floats, as OpenAI writes them."""
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
