"""/openapi.json: built once, in a thread. Anyone may request it, and building it takes a second."""

import asyncio
import json

from fastapi import FastAPI, Request, Response
from starlette.concurrency import run_in_threadpool

PATH = "/openapi.json"


def add_openapi_page(app: FastAPI) -> None:
    """Have the application serve its own OpenAPI document."""
    page: asyncio.Future[bytes] | None = None

    async def document(_: Request) -> Response:
        nonlocal page
        if page is None:
            page = asyncio.ensure_future(run_in_threadpool(lambda: json.dumps(app.openapi()).encode()))
        return Response(await asyncio.shield(page), media_type="application/json")

    app.add_route(PATH, document, include_in_schema=False)
