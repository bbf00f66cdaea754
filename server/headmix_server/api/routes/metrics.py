"""/metrics, in Prometheus' text format: complete for a key that may see it, without tenants and adapters for anyone."""

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse

from headmix_server.api.dependencies import Scraper, State
from headmix_server.api.public_metrics import Page
from headmix_server.api.schemas.error import document_errors_beside_text

router = APIRouter(tags=["metrics"])


@router.head("/metrics", include_in_schema=False)
@router.get("/metrics", response_class=PlainTextResponse, responses=document_errors_beside_text(401, 403, 503))
async def metrics(scraper: Scraper, state: State) -> Response:
    """Return every metric the caller may see; without a key, a snapshot at most a second old."""

    async def render() -> Page:
        return await state.threads.scrape(state.metrics.render, tenants=scraper.sees_tenants)

    content, content_type = await (render() if scraper.has_key else state.public_metrics.page(render))
    return Response(content, headers={"content-type": content_type})
