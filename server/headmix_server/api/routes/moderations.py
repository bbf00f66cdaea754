"""POST /v1/moderations, answered by a multi-label adapter: the operator's, or one that the tenant names."""

import secrets
from collections.abc import Sequence

from fastapi import APIRouter, Request

from headmix_adapters.config import ClassifierConfig
from headmix_server.api.dependencies import State
from headmix_server.api.inference.prepare import prepare
from headmix_server.api.inference.resolve import Model, require_multi_label, resolve_body, resolve_operators
from headmix_server.api.inference.tenant_limits import Admitted
from headmix_server.api.middleware.guard import GuardedRoute
from headmix_server.api.schemas.body import ModelBody
from headmix_server.api.schemas.moderations import (
    OPENAI_MODELS,
    Moderation,
    ModerationRequest,
    ModerationResponse,
)
from headmix_server.api.state import ApiState
from headmix_server.core.errors import ModelNotFound
from headmix_server.core.labels import read_scores

SETTING = "--moderation-adapter (HEADMIX_MODERATION_ADAPTER)"
router = APIRouter(tags=["classification"], route_class=GuardedRoute)


@router.post("/v1/moderations")
async def create_moderation(
    request: Request, body: ModerationRequest, admission: Admitted, state: State
) -> ModerationResponse:
    """Say which categories of harm each text belongs to."""
    prepared = await prepare(request, body, admission, state, require_multi_label, find_model)
    head = require_multi_label(prepared.model)
    prompts = await prepared.read_inputs(body.texts, split=body.split_special_tokens)
    scores = await prepared.classify(prompts)
    return ModerationResponse(
        id=f"modr-{secrets.token_hex(12)}",
        model=prepared.model.name,
        results=[moderation(score.probs, head) for score in scores],
    )


async def find_model(request: Request, state: ApiState, body: ModelBody) -> Model:
    """Return the adapter that the body names; the operator's for one of OpenAI's names, or without one.

    Raises:
        ModelNotFound: there is none.
    """
    if body.model not in OPENAI_MODELS:
        return await resolve_body(request, state, body)
    reference = state.settings.moderation_adapter
    if reference is None:
        raise ModelNotFound(
            f"This server has no adapter for moderation: its operator can name one with {SETTING}, or `model` can name "
            "a multi-label adapter of yours.",
            param="model",
        )
    try:
        return await resolve_operators(request, state, reference)
    except ModelNotFound:
        raise ModelNotFound(f"The adapter for moderation, named by {SETTING}, does not exist.", param="model") from None


def moderation(probs: Sequence[float], head: ClassifierConfig) -> Moderation:
    """Return one text's result, named by the adapter's labels.

    Raises:
        InternalError: the engine returned a different number of scores than the head has labels.
    """
    _, reached = read_scores(probs, head)
    flagged = frozenset(reached or ())
    return Moderation(
        flagged=bool(flagged),
        categories={label: label in flagged for label in head.labels},
        category_scores=dict(zip(head.labels, probs, strict=True)),
        category_applied_input_types={label: ["text"] for label in head.labels},
    )
