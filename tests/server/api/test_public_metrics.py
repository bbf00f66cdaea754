"""Scrapes without a key are cheap, however many there are."""

import asyncio
import threading

import httpx2
import pytest

from harness.server.api_rig import ApiRig
from headmix_server.api import public_metrics
from headmix_server.api.public_metrics import Page, PublicMetrics
from headmix_server.core.observability.metrics import Metrics
from headmix_server.tenancy.keys.principal import Scope


class Rendering:
    """Counts how often the page is rendered."""

    def __init__(self) -> None:
        self.count = 0
        self.failing = False

    async def __call__(self) -> Page:
        self.count += 1
        await asyncio.sleep(0.01)
        if self.failing:
            raise RuntimeError("no")
        return f"page {self.count}".encode(), "text/plain"


async def test_scrapes_within_a_second_get_the_same_page(monkeypatch: pytest.MonkeyPatch) -> None:
    public, render = PublicMetrics(), Rendering()
    pages = await asyncio.gather(*(public.page(render) for _ in range(50)))
    assert {page[0] for page in pages} == {b"page 1"}
    monkeypatch.setattr(public_metrics, "FRESH_SECONDS", 0)
    assert (await public.page(render))[0] == b"page 2"


async def test_a_cancelled_request_cancels_no_other_and_a_failure_is_not_cached() -> None:
    public, render = PublicMetrics(), Rendering()
    leaving = asyncio.create_task(public.page(render))
    await asyncio.sleep(0)
    staying = asyncio.create_task(public.page(render))
    await asyncio.sleep(0)
    leaving.cancel()
    assert (await staying)[0] == b"page 1"
    broken, again = PublicMetrics(), Rendering()
    again.failing = True
    with pytest.raises(RuntimeError):
        await broken.page(again)
    again.failing = False
    assert (await broken.page(again))[0] == b"page 2"


async def test_many_scrapes_without_a_key_render_once_and_one_with_a_key_sees_now(
    rig: ApiRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rendered = []
    render = rig.state.metrics.render

    def counting(*, tenants: bool) -> Page:
        rendered.append(tenants)
        return render(tenants=tenants)

    monkeypatch.setattr(rig.state.metrics, "render", counting)
    async with httpx2.AsyncClient(base_url=rig.url) as scraper:
        answers = await asyncio.gather(*(scraper.get("/metrics") for _ in range(20)))
    assert {answer.status_code for answer in answers} == {200}
    assert rendered == [False]
    for _ in range(2):
        await rig.client.get("/metrics", headers=rig.key(Scope.METRICS))
    assert rendered == [False, True, True]


def test_a_scrape_takes_no_lock_that_requests_take() -> None:
    metrics = Metrics(series=3, version="1", base="b")
    metrics.request_finished("/r", "acme", "tone", "ok", seconds=1)
    with metrics._lock:
        rendering = threading.Thread(target=metrics.render, kwargs={"tenants": True}, daemon=True)
        rendering.start()
        rendering.join(20)
        assert not rendering.is_alive()
