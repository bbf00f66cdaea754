"""Liveness and readiness. No key is required: probes have none.

Probes may use HEAD; the OpenAPI document lists only GET.
"""

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse

from headmix_server.api.dependencies import State
from headmix_server.api.schemas.health import Health
from headmix_server.core.errors import EngineUnavailable
from headmix_server.engine_client.client import EngineState

router = APIRouter(tags=["health"])


@router.head("/healthz", include_in_schema=False)
@router.get("/healthz", response_model_exclude_none=True)
async def alive() -> Health:
    """Respond as long as the process is alive."""
    return Health(status="ok")


@router.head("/health", include_in_schema=False)
@router.get("/health", response_class=Response, responses={503: {"description": "Not ready; also without a body."}})
async def healthy(state: State) -> Response:
    """Answer 200 or 503 without a body, like `/readyz`; used by vLLM's probes and benchmarks."""
    if state.engine.state is EngineState.READY:
        return Response()
    return Response(status_code=EngineUnavailable.status, headers={"retry-after": str(EngineUnavailable.usual_retry)})


@router.head("/readyz", include_in_schema=False)
@router.get("/readyz", responses={200: {"model": Health}, 503: {"model": Health}})
async def ready(state: State) -> Response:
    """Return whether a request would be served, and if not, why."""
    engine = state.engine
    if engine.state is EngineState.READY:
        return JSONResponse({"status": "ready"})
    reason = "the server is shutting down" if engine.state is EngineState.DRAINING else engine.reason
    body = {"status": engine.state.value, "reason": reason}
    return JSONResponse(body, 503, {"retry-after": str(EngineUnavailable.usual_retry)})
