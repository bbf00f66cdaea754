"""/metrics, in Prometheus' text form. No key is asked for: scrapers have none, so keep the port inside."""

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse
from starlette.concurrency import run_in_threadpool

from headmix_server.api.deps import State

router = APIRouter(tags=["metrics"])


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(state: State) -> Response:
    """Return every metric."""
    content, content_type = await run_in_threadpool(state.metrics.render)
    return Response(content, headers={"content-type": content_type})
