"""The public OpenAPI document does not hold up other requests."""

import asyncio
import threading

import httpx2
import pytest
from fastapi import FastAPI

from harness.server.api_rig import ApiRig
from tests.server.api.test_openapi import document


async def test_the_document_is_served_without_a_key_and_made_once_off_the_event_loop(
    rig: ApiRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_in = []
    make = FastAPI.openapi

    def openapi(app: FastAPI) -> object:
        made_in.append(threading.current_thread())
        return make(app)

    monkeypatch.setattr(FastAPI, "openapi", openapi)
    async with httpx2.AsyncClient(base_url=rig.url, timeout=60) as stranger:
        answers = await asyncio.gather(*(stranger.get("/openapi.json") for _ in range(5)))
        wrong = await stranger.post("/openapi.json")
    assert len(made_in) == 1
    assert made_in[0] is not threading.main_thread()
    assert all(answer.headers["content-type"] == "application/json" for answer in answers)
    assert answers[0].json() == document()
    assert wrong.status_code == 405
