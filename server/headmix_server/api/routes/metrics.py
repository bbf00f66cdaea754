"""/metrics, in Prometheus' text form: all of it for a key that may, without tenants and adapters for anybody."""

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse
from starlette.concurrency import run_in_threadpool

from headmix_server.api.deps import MaySeeTenants, State
from headmix_server.api.schemas.error import document_errors_beside_text

router = APIRouter(tags=["metrics"])


@router.head("/metrics", include_in_schema=False)
@router.get("/metrics", response_class=PlainTextResponse, responses=document_errors_beside_text(401, 403, 503))
async def metrics(tenants: MaySeeTenants, state: State) -> Response:
    """Return every metric the caller may see."""
    content, content_type = await run_in_threadpool(lambda: state.metrics.render(tenants=tenants))
    return Response(content, headers={"content-type": content_type})
