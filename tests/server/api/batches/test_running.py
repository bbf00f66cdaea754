"""A batch runs: each line is answered once and exactly as over HTTP, whatever happens meanwhile."""

import asyncio
import errno
import os
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.server.api_rig import TENANT, api_rig
from harness.server.batch_rig import URL, BatchRig, Json, batch_line, chat_line
from harness.server.s3_server import S3Server
from headmix_server.batches import run, segments
from headmix_server.core.messages import Generate
from headmix_server.database import writing
from headmix_server.files.stored_file import Purpose
from headmix_server.jobs.tables import JobRow
from headmix_server.tenancy.keys.principal import Scope


def counts(total: int, completed: int, failed: int) -> Json:
    return {"total": total, "completed": completed, "failed": failed}


async def test_every_line_is_answered_once_in_one_of_the_two_files(batches: BatchRig) -> None:
    lines = [chat_line("a"), chat_line("b", model="nobody"), chat_line("c", temperature=9), chat_line("d")]
    made = await batches.create(lines, metadata={"run": "7"})
    assert (made["status"], made["request_counts"], made["metadata"]) == ("validating", counts(0, 0, 0), {"run": "7"})
    async with batches.running():
        ended = await batches.ended(made["id"])
    assert (ended["status"], ended["request_counts"]) == ("completed", counts(4, 2, 2))
    assert {line["custom_id"] for line in batches.lines(ended["output_file_id"])} == {"a", "d"}
    found = batches.results(ended)
    assert found["a"]["response"]["body"]["choices"][0]["message"]["content"] == "fine"
    assert found["a"]["error"] is None
    codes = {name: found[name]["response"]["body"]["error"]["code"] for name in ("b", "c")}
    assert codes == {"b": "model_not_found", "c": "invalid_request_error"}
    assert found["b"]["response"]["status_code"] == 404
    assert len({line["response"]["request_id"] for line in found.values()}) == 4
    used = [found[name]["response"]["body"]["usage"]["total_tokens"] for name in "ad"]
    assert ended["usage"]["total_tokens"] == sum(used) > 0
    assert 0 < ended["in_progress_at"] <= ended["finalizing_at"] <= ended["completed_at"]


async def test_a_line_gets_what_the_same_request_gets_over_http(batches: BatchRig) -> None:
    rig = batches.rig
    rig.publish("spam", labels=("ham", "spam"))
    rig.publish("poet")
    rig.engine.probs, rig.engine.vector = [0.25, 0.75], [0.5, -1.0]
    asked: dict[str, list[Json]] = {
        "/v1/chat/completions": [
            chat_line("plain")["body"],
            chat_line("adapter", "poet", max_tokens=3, logprobs=True, top_logprobs=0, seed=4, n=2)["body"],
            {"model": "spam", "messages": [{"role": "user", "content": "x"}]},
            {"model": "poet", "messages": "x"},
            {"model": "poet", "messages": [], "frobnicate": 1},
        ],
        "/v1/completions": [{"model": "tiny-base", "prompt": ["a", "b"], "stop": ["e"]}],
        "/v1/embeddings": [{"model": "tiny-base", "input": "a", "encoding_format": "base64"}],
        "/v1/classify": [{"model": "spam", "input": ["a", "b"]}, {"model": "poet", "input": "a"}],
        "/v1/responses": [{"model": "poet", "input": "a"}],
    }
    async with batches.running():
        for url, bodies in asked.items():
            made = await batches.create([batch_line(str(n), b, url=url) for n, b in enumerate(bodies)], endpoint=url)
            found = batches.results(await batches.ended(made["id"]))
            for number, body in enumerate(bodies):
                response = await rig.client.post(url, json=body)
                got = found[str(number)]["response"]
                assert (got["status_code"], fixed(got["body"])) == (response.status_code, fixed(response.json()))


def fixed(body: Any) -> Any:
    """Return a body without what differs from response to response."""
    if isinstance(body, dict):
        drawn = {"id", "created", "created_at", "completed_at"}
        return {name: fixed(value) for name, value in body.items() if name not in drawn}
    return [fixed(one) for one in body] if isinstance(body, list) else body


async def test_lines_are_background_work_with_their_tenants_weight(batches: BatchRig) -> None:
    batches.rig.state.limits.change(TENANT, {"weight": 3.0}, actor="test")
    busy: list[bool] = []
    batches.rig.state.engine.watch_busy(busy.append)
    async with batches.running():
        await batches.ended((await batches.create([chat_line("a")]))["id"])
    (message,) = batches.rig.engine.of(Generate)
    assert (message.background, message.weight, message.tenant) == (True, 3.0, TENANT)
    assert busy == []  # an idle trainer goes on
    await batches.rig.client.post("/v1/chat/completions", json=chat_line("b")["body"])
    assert busy == [True, False]
    assert [one.background for one in batches.rig.engine.of(Generate)] == [True, False]


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (chat_line("a"), {"code": "duplicate_custom_id", "param": "custom_id"}),
        (chat_line("b", stream=True), {"code": "unsupported_parameter", "param": "body.stream"}),
        (b"{no\n", {"code": "invalid_json_line", "param": None}),
        (batch_line("b", {}, url="/v1/embeddings"), {"code": "mismatched_url", "param": "url"}),
    ],
)
async def test_a_faulty_file_runs_nothing_and_each_fault_has_its_line(
    batches: BatchRig, line: Json | bytes, fault: Json
) -> None:
    made = await batches.create([chat_line("a"), line])
    async with batches.running():
        ended = await batches.ended(made["id"])
    assert ended["status"] == "failed"
    (told,) = ended["errors"]["data"]
    assert {**fault, "line": 2} == {name: told[name] for name in ("code", "param", "line")}
    assert (ended["output_file_id"], ended["error_file_id"]) == (None, None)
    assert ended["failed_at"]
    assert batches.rig.engine.of(Generate) == []


async def test_no_more_lines_are_open_than_the_window(
    base_folder: Path, tmp_path: Path, rig_settings: dict[str, str]
) -> None:
    async with api_rig(base_folder, tmp_path, settings={**rig_settings, "batch_window": 3}) as rig:
        batches = BatchRig(rig, tmp_path / "work")
        rig.engine.answering = False
        made = await batches.create([chat_line(str(n)) for n in range(8)])
        async with batches.running():
            await rig.engine.expect(Generate, 3)
            rig.says("x")
            for done in range(8):
                messages = await rig.engine.expect(Generate, min(8, done + 3))
                assert len(messages) <= done + 3
                await rig.engine.send(*rig.engine.answer(messages[done]))
            ended = await batches.ended(made["id"])
    assert ended["request_counts"] == counts(8, 8, 0)


async def test_answered_lines_survive_a_stop_and_are_not_asked_again(batches: BatchRig) -> None:
    engine = batches.rig.engine
    engine.answering = False
    made = await batches.create([chat_line(str(n)) for n in range(4)])
    async with batches.running():
        messages = await engine.expect(Generate, 4)
        await engine.send(*engine.answer(messages[0]), *engine.answer(messages[2]))
        await until(lambda: batches.rig.state.engine.open_requests == 2)
    engine.answering = True
    async with batches.running():
        ended = await batches.ended(made["id"])
    assert ended["request_counts"] == counts(4, 4, 0)
    assert set(batches.results(ended)) == set("0123")
    assert len(engine.of(Generate)) == 6


async def test_a_full_disk_is_waited_for_and_loses_no_answer(
    batches: BatchRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures: list[str] = []

    def full_at_first(name: str) -> SimpleNamespace:
        def call(*args: Any, **kwargs: Any) -> Any:
            if failures.count(name) < 4:
                failures.append(name)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return getattr(tempfile, name)(*args, **kwargs)

        return SimpleNamespace(**{name: call})

    monkeypatch.setattr(run, "RETRY_SECONDS", 0.0)
    monkeypatch.setattr(run, "tempfile", full_at_first("mkdtemp"))
    monkeypatch.setattr(segments, "tempfile", full_at_first("NamedTemporaryFile"))
    made = await batches.create([chat_line(str(n)) for n in range(4)])
    async with batches.running():
        ended = await batches.ended(made["id"])
    assert (ended["status"], ended["request_counts"]) == ("completed", counts(4, 4, 0))
    assert len(batches.rig.engine.of(Generate)) == 4
    assert len(failures) == 8  # more than a batch has attempts


async def test_a_server_on_another_machine_goes_on_from_the_bucket(
    base_folder: Path, tmp_path: Path, s3: S3Server, rig_settings: dict[str, str]
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    settings = {**rig_settings, "artifacts": s3.new_bucket(), "batch_window": 2}
    async with api_rig(base_folder, here, settings=settings) as rig:
        rig.says("fine")
        rig.engine.answering = False
        batches = BatchRig(rig, here / "work")
        file = await asyncio.to_thread(batches.upload, [chat_line(str(n)) for n in range(4)])
        made = (await rig.client.post(URL, json={"input_file_id": file, "endpoint": "/v1/chat/completions"})).json()
        async with batches.running():
            messages = await rig.engine.expect(Generate, 2)
            await rig.engine.send(*rig.engine.answer(messages[0]))
            await rig.engine.expect(Generate, 3)
    async with api_rig(base_folder, there, settings=settings) as rig:
        rig.says("fine")
        batches = BatchRig(rig, there / "work")
        async with batches.running():
            ended = await batches.ended(made["id"])
        assert ended["request_counts"] == counts(4, 4, 0)
        assert set(await asyncio.to_thread(batches.results, ended)) == set("0123")
        assert len(rig.engine.of(Generate)) == 3


async def until(condition: Any) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - there is no event
            await asyncio.sleep(0.02)


async def test_cancelled_lines_say_so_and_answered_ones_are_kept(batches: BatchRig) -> None:
    engine = batches.rig.engine
    engine.answering = False
    made = await batches.create([chat_line(str(n)) for n in range(3)])
    async with batches.running():
        messages = await engine.expect(Generate, 3)
        await engine.send(*engine.answer(messages[1]))
        await until(lambda: batches.rig.state.engine.open_requests == 2)
        response = await batches.rig.client.post(f"{URL}/{made['id']}/cancel")
        assert response.json()["status"] == "cancelling"
        ended = await batches.ended(made["id"])
        again = await batches.rig.client.post(f"{URL}/{made['id']}/cancel")
        assert (again.status_code, again.json()["status"]) == (200, "cancelled")
    assert (ended["status"], ended["request_counts"]) == ("cancelled", counts(3, 1, 0))
    assert ended["cancelling_at"] <= ended["cancelled_at"]
    errors = {name: line["error"] and line["error"]["code"] for name, line in batches.results(ended).items()}
    assert errors.keys() == {"0", "1", "2"}
    assert sorted(errors.values(), key=str) == [None, "batch_cancelled", "batch_cancelled"]
    assert batches.rig.state.engine.open_requests == 0


async def test_a_batch_that_has_not_begun_is_cancelled_at_once(batches: BatchRig) -> None:
    made = await batches.create([chat_line("a")])
    response = await batches.rig.client.post(f"{URL}/{made['id']}/cancel")
    assert (response.json()["status"], response.json()["error_file_id"]) == ("cancelled", None)
    batches.rig.state.files.delete(TENANT, made["input_file_id"])
    async with batches.running():
        done = await batches.ended((await batches.create([chat_line("b")]))["id"])
    response = await batches.rig.client.post(f"{URL}/{done['id']}/cancel")
    assert (response.status_code, response.json()["error"]["param"]) == (400, "batch_id")


async def test_what_is_not_answered_by_the_end_of_the_window_has_expired(batches: BatchRig) -> None:
    engine = batches.rig.engine
    engine.answering = False
    made = await batches.create([chat_line("a"), chat_line("b")], completion_window="1m")
    assert made["expires_at"] == made["created_at"] + 60
    async with batches.running():
        messages = await engine.expect(Generate, 2)
        await engine.send(*engine.answer(messages[0]))
        await until(lambda: batches.rig.state.engine.open_requests == 1)
    request = batches.rig.state.jobs.get(TENANT, made["id"]).request
    with writing(batches.rig.state.database) as session:
        row = session.get(JobRow, made["id"])
        assert row is not None
        row.request = request.replace(f'"expires":{made["expires_at"]}', '"expires":1')
    async with batches.running():
        ended = await batches.ended(made["id"])
    assert (ended["status"], ended["request_counts"]) == ("expired", counts(2, 1, 0))
    errors = {name: line["error"] and line["error"]["code"] for name, line in batches.results(ended).items()}
    assert sorted(errors.values(), key=str) == [None, "batch_expired"]


async def test_lines_wait_for_their_tenants_rates_and_leave_some_for_others(batches: BatchRig) -> None:
    rig = batches.rig
    rig.state.limits.change(TENANT, {"requests_per_minute": 10, "concurrent_requests": 2}, actor="test")
    made = await batches.create([chat_line(str(n)) for n in range(12)])
    async with batches.running():
        await until(lambda: len(rig.engine.of(Generate)) == 8)
        response = await rig.client.post("/v1/chat/completions", json=chat_line("online")["body"])
        assert response.status_code == 200
        await rig.client.post(f"{URL}/{made['id']}/cancel")
        ended = await batches.ended(made["id"])
    assert ended["request_counts"] == counts(12, 8, 0)


async def test_lines_wait_for_the_engine_and_are_asked_again_when_it_dies(batches: BatchRig) -> None:
    rig = batches.rig
    rig.engine.answering = False
    made = await batches.create([chat_line("a")])
    async with batches.running():
        await rig.engine.expect(Generate, 1)
        rig.state.engine.detach("it died")
        assert (await batches.get(made["id"]))["status"] == "in_progress"


async def test_a_revoked_key_ends_its_batches(batches: BatchRig) -> None:
    rig = batches.rig
    new = rig.state.keys.create(TENANT, [Scope.INFERENCE])
    rig.engine.answering = False
    file = batches.upload([chat_line("a"), chat_line("b")])
    body = {"input_file_id": file, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    key = {"Authorization": f"Bearer {new.plaintext}"}
    made = (await rig.client.post(URL, json=body, headers=key)).json()
    async with batches.running():
        messages = await rig.engine.expect(Generate, 2)
        await rig.engine.send(*rig.engine.answer(messages[0]))
        rig.state.keys.revoke(TENANT, new.info.key_id)
        ended = await batches.ended(made["id"])
    assert ended["status"] == "failed"
    assert ended["errors"]["data"][0]["code"] == "invalid_api_key"
    assert ended["request_counts"] == counts(2, 1, 0)
    assert len(batches.lines(ended["output_file_id"])) == 1


async def test_the_input_file_may_be_deleted_once_the_batch_is_created(batches: BatchRig) -> None:
    made = await batches.create([chat_line("a")])
    batches.rig.state.files.delete(TENANT, made["input_file_id"])
    async with batches.running():
        ended = await batches.ended(made["id"])
    assert ended["request_counts"] == counts(1, 1, 0)


async def test_output_files_expire_when_the_client_says(batches: BatchRig) -> None:
    made = await batches.create([chat_line("a")], output_expires_after={"anchor": "created_at", "seconds": 3600})
    async with batches.running():
        ended = await batches.ended(made["id"])
    file = batches.rig.state.files.get(TENANT, ended["output_file_id"])
    assert file.expires == ended["finalizing_at"] + 3600
    assert (file.purpose, file.filename) == (Purpose.BATCH_OUTPUT, f"{made['id']}_output.jsonl")


async def test_lines_are_counted_and_metered_but_not_in_latencies(batches: BatchRig) -> None:
    rig = batches.rig
    async with batches.running():
        await batches.ended((await batches.create([chat_line("a"), chat_line("b", "nobody")]))["id"])
    page = (await rig.client.get("/metrics")).text
    assert 'headmix_batch_lines_total{outcome="ok"} 1.0' in page
    assert 'headmix_batch_lines_total{outcome="model_not_found"} 1.0' in page
    assert 'headmix_batches_total{status="completed"} 1.0' in page
    assert "headmix_time_to_first_token_seconds_count 0.0" in page
    usage = rig.state.usage
    usage.flush()
    today = (await rig.client.get("/v1/usage")).json()
    assert today["data"][0]["requests"] == 1
