"""What a scrape returns, for every kind of key."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from harness.server.api_rig import TENANT, ApiRig, api_rig
from headmix_server.core.messages import EngineReport, ResidentAdapter
from headmix_server.core.types import Residency
from headmix_server.tenancy.keys.principal import Scope
from tests.support.metrics_lint import complaints, promtool_says

NAMED_BY_OTHERS = ["vllm:lora_requests_info metric names should not contain ':'"]
"""The metrics that inference routers read, whose names the routers define."""


@pytest.fixture
async def rig(base_folder: Path, tmp_path: Path) -> AsyncIterator[ApiRig]:
    """A server that has a value for every metric."""
    async with api_rig(base_folder, tmp_path) as running:
        await _use(running)
        yield running


async def _use(rig: ApiRig) -> None:
    rig.publish("poet")
    await rig.client.post("/v1/completions", json={"model": "poet", "prompt": 'a "quoted"\\ text'})
    await rig.client.post("/v1/completions", json={"model": "no such", "prompt": "x"})
    metrics, names = rig.state.metrics, {"sha256:1": ((TENANT, "poet"),)}
    metrics.engine_started(os.getpid())
    report = EngineReport(
        running=1,
        waiting=0,
        kv_usage=0.5,
        slots_free=1,
        slots_leased=1,
        slots_idle=0,
        slots_loading=0,
        running_adapters=["sha256:1"],
    )
    metrics.observe_report(report, names)
    metrics.observe_residents([ResidentAdapter(digest="sha256:1", tier=Residency.DEVICE)], names)
    metrics.version_answered(TENANT, "poet", 1, "ok", seconds=1.0, first_token_seconds=0.5, generation_tokens=3)
    metrics.storage_failed("database")
    metrics.limits_fell_back()


async def _scrape(rig: ApiRig, headers: dict[str, str]) -> str:
    answer = await rig.client.get("/metrics", headers=headers)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    return answer.text


@pytest.mark.parametrize(
    ("scopes", "known"), [((), []), ((Scope.METRICS,), NAMED_BY_OTHERS), ((Scope.ADMIN,), NAMED_BY_OTHERS)]
)
async def test_promtool_only_complains_about_the_name_that_vllm_chose(
    rig: ApiRig, scopes: tuple[Scope, ...], known: list[str]
) -> None:
    text = await _scrape(rig, rig.key(*scopes) if scopes else {"Authorization": ""})
    assert complaints(text) == known
    assert await asyncio.to_thread(promtool_says, text) in (None, known)


async def test_a_key_of_a_tenant_without_the_scope_sees_nothing(rig: ApiRig) -> None:
    answer = await rig.client.get("/metrics", headers=rig.key(Scope.INFERENCE))
    assert answer.status_code == 403


async def test_both_processes_metrics_are_visible_to_everybody(rig: ApiRig) -> None:
    text = await _scrape(rig, {"Authorization": ""})
    found = {family.name: family.samples[0].value for family in text_string_to_metric_families(text) if family.samples}
    for prefix in ("process", "headmix_engine_process"):
        assert found[f"{prefix}_resident_memory_bytes"] > 1_000_000
        assert found[f"{prefix}_cpu_seconds"] > 0
        assert found[f"{prefix}_open_fds"] > 0
        assert found[f"{prefix}_start_time_seconds"] > 1_600_000_000
    assert found["python_info"] == 1


async def test_an_engine_that_is_gone_has_no_process(rig: ApiRig) -> None:
    rig.state.metrics.engine_lost()
    text = await _scrape(rig, {"Authorization": ""})
    assert "headmix_engine_process" not in text
    assert "process_open_fds" in text


BAD = """# HELP requests_gauge Requests.
# TYPE requests_gauge gauge
requests_gauge 1.0
# TYPE latency_ms gauge
latency_ms 1.0
# HELP things_total Things.
# TYPE things_total gauge
things_total 1.0
# HELP a:b Colon.
# TYPE a:b gauge
a:b 1.0
# HELP camelCase Humps.
# TYPE camelCase gauge
camelCase 1.0
"""


def test_the_rules_find_what_promtool_finds() -> None:
    found = {complaint.split(" ", 1)[0] for complaint in complaints(BAD)}
    assert found == {"requests_gauge", "latency_ms", "things_total", "a:b", "camelCase"}
    lines = promtool_says(BAD)
    assert lines is None or {line.split(" ", 1)[0] for line in lines} == found
