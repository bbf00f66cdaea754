"""The application: routers, error handlers and middleware around one state."""

from collections.abc import Sequence
from functools import cache

from fastapi import APIRouter, FastAPI
from starlette.routing import BaseRoute

from headmix_server.api.middleware.body.body_budget import BodyBudget
from headmix_server.api.middleware.body.body_limit import MIB, BodyLimit, Pace
from headmix_server.api.middleware.error_responses import install_handlers
from headmix_server.api.middleware.refusal_pace import PacedRefusals, RefusalPace
from headmix_server.api.middleware.request_log import RequestLog
from headmix_server.api.openapi_page import add_openapi_page
from headmix_server.api.routes import (
    adapters,
    batches,
    canary,
    chat,
    classify,
    completions,
    embeddings,
    files,
    fine_tuning,
    health,
    limits,
    metrics,
    models,
    moderations,
    pairs,
    pins,
    responses,
    sharing,
    tenant_adapters,
    tenants,
    tokens,
    uploads,
    usage,
    versions,
)
from headmix_server.api.schemas.error import document_errors
from headmix_server.api.state import ApiState

_RESOURCES = (
    *(completions, chat, responses, classify, embeddings, pairs, moderations, tokens, models, batches),
    *(adapters, versions, sharing, canary, pins),
    *(files, uploads),
    fine_tuning,
    *(tenants, tenant_adapters, limits, usage),
)
_PROBES = (health, metrics)


def create_app(state: ApiState) -> FastAPI:
    """Return the HTTP application for this state; it neither starts nor stops any part of it."""
    app = FastAPI(title="headmix", version="1", openapi_url=None, redirect_slashes=False, routes=[*_routes()])
    add_openapi_page(app)
    app.state.headmix = state
    install_handlers(app)
    settings = state.settings
    pace, budget = Pace(settings.body_seconds, settings.min_body_rate), BodyBudget(settings.max_bodies_mib * MIB)
    app.add_middleware(
        RequestLog,
        metrics=state.metrics,
        usage=state.usage,
        bodies=BodyLimit(settings.max_body_mib, pace, budget),
        refusals=PacedRefusals(
            RefusalPace(settings.limit_refusals_per_second), most_waiting=settings.max_connections // 4
        ),
    )
    return app


@cache
def _routes() -> Sequence[BaseRoute]:
    """Return the routes, the same for every state: the framework takes some tenths of a second to build them."""
    together = APIRouter()
    for module in _RESOURCES:
        together.include_router(module.router, responses=document_errors())
    for module in _PROBES:
        together.include_router(module.router)
    return together.routes


def prepare_routes(app: FastAPI) -> None:
    """Have the framework build all routes now, which takes some tenths of a second, instead of at the first request."""
    nowhere = {"type": "http", "method": "GET", "path": "/", "root_path": "", "headers": []}
    for route in app.routes:
        route.matches(dict(nowhere))
