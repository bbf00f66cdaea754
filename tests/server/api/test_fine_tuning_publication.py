"""The result of a trained job becomes a version, in one transaction with the job's end."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.orm import Session

from harness.adapters.artifacts import classifier_config, random_artifact
from harness.server.api_rig import BASE, TENANT, ApiRig
from harness.server.queued_job import put_bytes
from headmix_server.core.errors import StorageUnavailable
from headmix_server.database import writing
from headmix_server.files.references import keep_for_job
from headmix_server.fine_tuning import stage
from headmix_server.fine_tuning.check.checker import Checker
from headmix_server.fine_tuning.result import ResultFile, StoredBytes, Trained
from headmix_server.jobs.changes import read_job
from headmix_server.jobs.jobs import Jobs
from headmix_server.jobs.tables import JobRow
from tests.server.api.test_fine_tuning import CHATS, URL, check_all, create, get, jsonl, keeping, upload
from tests.support.clocks.waiting import until

CURVES = "curves.svg"


@pytest.fixture
def rig_settings(database_url: str) -> dict[str, str]:
    return {"database": database_url}


async def trained(
    rig: ApiRig, folder: Path, *, seed: int = 0, labels: tuple[str, ...] = (), below_base: bool = False, **body: Any
) -> str:
    """Return the id of a job whose worker is done with it."""
    job = await create(rig, **{"suffix": "tone", **body})
    with keeping(rig) as keeper:
        while await keeper.checks.round():
            pass
    artifact, picture = folder / "a.safetensors", folder / CURVES
    random_artifact(
        artifact, rig.state.base.shape, seed=seed, classifier=classifier_config(*labels) if labels else None
    )
    picture.write_text("<svg/>")
    files = rig.state.files
    result = Trained(
        artifact=StoredBytes(digest=put_bytes(files, artifact), size_bytes=artifact.stat().st_size),
        files=(ResultFile(filename=CURVES, digest=put_bytes(files, picture), size_bytes=6),),
        trained_tokens=99,
        scores={"adapter": {"answer_nll": 1.5}},
        below_base=below_base,
    )
    rig.state.jobs.move(job["id"], before={"queued"}, after="publishing", result=result.json())
    with writing(rig.state.database) as session:
        keep_for_job(session, result.sizes, job=job["id"])
    identity: str = job["id"]
    return identity


async def versions(rig: ApiRig) -> list[tuple[int, bool]]:
    listed = (await rig.client.get("/v1/adapters/tone/versions")).json().get("data", [])
    return [(version["version"], version["current"]) for version in listed]


async def test_a_trained_job_ends_with_a_model_that_can_be_asked_and_its_files(rig: ApiRig, tmp_path: Path) -> None:
    job = await trained(rig, tmp_path)
    assert (await get(rig, {"id": job}))["status"] == "running"
    await check_all(rig)
    ended = await get(rig, {"id": job})
    assert (ended["status"], ended["fine_tuned_model"], ended["trained_tokens"]) == ("succeeded", "tone@1", 99)
    assert ended["headmix"]["scores"] == {"adapter": {"answer_nll": 1.5}}
    assert (await rig.client.get(f"/v1/models/{ended['fine_tuned_model']}")).json()["version"] == 1
    (file,) = ended["result_files"]
    stored = rig.state.files.get(TENANT, file)
    assert (stored.filename, stored.purpose) == (CURVES, "fine-tune-results")
    with rig.state.files.open(TENANT, file) as content:
        assert content.read() == b"<svg/>"
    messages = [event["message"] for event in (await rig.client.get(f"{URL}/{job}/events")).json()["data"]]
    assert messages[:2] == ["The job has successfully completed", "New fine-tuned model created: tone@1"]
    asked = {"model": "tone@1", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 2}
    assert (await rig.client.post("/v1/chat/completions", json=asked)).status_code == 200
    assert (await rig.client.delete("/v1/models/tone@1")).status_code == 200


@pytest.mark.parametrize(
    ("publish", "expected", "canary"),
    [
        ("current", [(2, True), (1, False)], None),
        ("beside", [(2, False), (1, True)], None),
        ({"canary": 25}, [(2, False), (1, True)], {"version": 2, "percent": 25}),
    ],
)
async def test_the_request_decides_what_becomes_of_the_version(
    rig: ApiRig, tmp_path: Path, publish: object, expected: list[tuple[int, bool]], canary: object
) -> None:
    await trained(rig, tmp_path, headmix={"publish": "beside"})  # the first version is current all the same
    await check_all(rig)
    assert await versions(rig) == [(1, True)]
    job = await trained(rig, tmp_path, seed=1, headmix={"publish": publish})
    await check_all(rig)
    assert (await get(rig, {"id": job}))["fine_tuned_model"] == "tone@2"
    assert await versions(rig) == expected
    assert (await rig.client.get("/v1/adapters/tone")).json()["canary"] == canary


async def test_what_cannot_be_a_canary_is_published_beside_and_the_job_says_so(rig: ApiRig, tmp_path: Path) -> None:
    await trained(rig, tmp_path)
    await check_all(rig)
    job = await trained(rig, tmp_path, seed=1, labels=("a", "b"), headmix={"publish": {"canary": 50}})
    await check_all(rig)
    assert await versions(rig) == [(2, False), (1, True)]
    events = (await rig.client.get(f"{URL}/{job}/events")).json()["data"]
    assert [event["message"][:21] for event in events if event["level"] == "warn"] == ["No canary was started"]


@pytest.mark.parametrize(
    ("publish", "said"),
    [
        ("current", ["tone@2 scores below its base, so it is published beside the current version"]),
        ({"canary": 25}, ["tone@2 scores below its base, so it is published beside the current version"]),
        ("beside", []),
    ],
)
async def test_what_scores_below_its_base_takes_no_requests_from_the_current_version(
    rig: ApiRig, tmp_path: Path, publish: object, said: list[str]
) -> None:
    await trained(rig, tmp_path, below_base=True)  # there is none yet: it is the current one
    await check_all(rig)
    assert await versions(rig) == [(1, True)]
    job = await trained(rig, tmp_path, seed=1, below_base=True, headmix={"publish": publish})
    await check_all(rig)
    assert (await get(rig, {"id": job}))["fine_tuned_model"] == "tone@2"
    assert await versions(rig) == [(2, False), (1, True)]
    assert (await rig.client.get("/v1/adapters/tone")).json()["canary"] is None
    events = (await rig.client.get(f"{URL}/{job}/events")).json()["data"]
    assert [event["message"] for event in events if event["level"] == "warn"] == said


async def test_a_crash_before_the_end_of_the_transaction_publishes_nothing_and_the_next_try_once(
    rig: ApiRig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await trained(rig, tmp_path)

    def die(*_: object, **__: object) -> bool:
        raise StorageUnavailable("gone")

    with monkeypatch.context() as patched:
        patched.setattr(Jobs, "move_in", die)
        await check_all(rig)
    assert (await get(rig, {"id": job}))["status"] == "running"
    assert await versions(rig) == []
    assert rig.state.files.list(TENANT, purpose="fine-tune-results").files == ()
    await asyncio.gather(check_all(rig), check_all(rig))
    assert (await get(rig, {"id": job}))["fine_tuned_model"] == "tone@1"
    assert await versions(rig) == [(1, True)]
    assert len(rig.state.files.list(TENANT, purpose="fine-tune-results").files) == 1


async def test_a_job_that_has_moved_on_is_not_published(
    rig: ApiRig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await trained(rig, tmp_path)
    usual: Callable[..., bool] = Jobs.move_in

    def ended_meanwhile(self: Jobs, session: Session, job_id: str, **options: Any) -> bool:
        row = session.get(JobRow, job_id)
        assert row is not None
        row.state = "cancelled"
        session.flush()
        assert read_job(session, JobRow.id == job_id) is not None
        return usual(self, session, job_id, **options)

    monkeypatch.setattr(Jobs, "move_in", ended_meanwhile)
    with keeping(rig) as keeper:
        await keeper.round()
    assert await versions(rig) == []
    assert (await get(rig, {"id": job}))["fine_tuned_model"] is None


async def test_an_artifact_that_cannot_be_served_ends_the_job(rig: ApiRig, tmp_path: Path) -> None:
    job = await trained(rig, tmp_path)
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"nonsense")
    result = Trained(artifact=StoredBytes(digest=put_bytes(rig.state.files, broken), size_bytes=8))
    rig.state.jobs.move(job, before={"publishing"}, after="publishing", result=result.json())
    await check_all(rig)
    ended = await get(rig, {"id": job})
    assert (ended["status"], ended["error"]["code"], ended["fine_tuned_model"]) == ("failed", "invalid_adapter", None)


async def test_a_result_beyond_the_tenants_stored_bytes_is_published_and_the_next_job_is_refused(
    rig: ApiRig, tmp_path: Path
) -> None:
    job = await trained(rig, tmp_path)
    rig.state.limits.change(TENANT, {"stored_bytes": 1}, actor="test")
    await check_all(rig)
    assert (await get(rig, {"id": job}))["status"] == "succeeded"
    (data, *_) = rig.state.files.list(TENANT, purpose="fine-tune").files
    refused = await rig.client.post(URL, json={"model": BASE, "training_file": data.id})
    assert (refused.status_code, "no room for results" in refused.json()["error"]["message"]) == (429, True)


async def test_a_result_without_room_waits_for_it_says_so_once_and_is_then_published(
    rig: ApiRig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "REST_SECONDS", 0.0)
    job = await trained(rig, tmp_path)
    rig.publish("other")
    rig.state.limits.change(TENANT, {"adapters": 1}, actor="test")
    for _ in range(3):
        await check_all(rig)
        assert (await get(rig, {"id": job}))["status"] == "running"
    events = (await rig.client.get(f"{URL}/{job}/events")).json()["data"]
    said = [event for event in events if event["level"] == "warn"]
    assert [event["data"] for event in said] == [{"code": "waiting_for_room", "limit": "adapters"}]
    assert "Delete one first." in said[0]["message"]
    await rig.client.delete("/v1/adapters/other")
    await check_all(rig)
    assert (await get(rig, {"id": job}))["fine_tuned_model"] == "tone@1"


async def test_a_result_that_waits_for_room_does_not_hold_up_the_tenants_next_and_can_be_cancelled(
    rig: ApiRig, tmp_path: Path
) -> None:
    rig.publish("tone")
    waits = await trained(rig, tmp_path, suffix="new")
    fits = await trained(rig, tmp_path, seed=1)
    rig.state.limits.change(TENANT, {"adapters": 1}, actor="test")
    with keeping(rig) as keeper:
        for _ in range(2):
            await keeper.round()
    assert (await get(rig, {"id": fits}))["fine_tuned_model"] == "tone@2"
    assert (await rig.client.post(f"{URL}/{waits}/cancel")).json()["status"] == "cancelled"
    rig.state.limits.change(TENANT, {"adapters": None}, actor="test")
    await check_all(rig)
    assert (await rig.client.get("/v1/adapters/new")).status_code == 404


async def test_a_check_that_takes_long_does_not_hold_up_publications(
    rig: ApiRig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await trained(rig, tmp_path)
    await create(rig)
    checking = asyncio.Event()

    async def never_ends(*_: object) -> None:
        checking.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(Checker, "check", never_ends)
    with keeping(rig) as keeper:
        running = asyncio.create_task(keeper.run())
        await checking.wait()
        await until(lambda: rig.state.jobs.get(TENANT, job).state == "succeeded")
        running.cancel()
        await asyncio.wait([running])


async def test_a_job_whose_adapter_would_be_one_too_many_is_refused_before_it_trains(rig: ApiRig) -> None:
    rig.publish("tone")
    file = upload(rig, jsonl(CHATS))
    rig.state.limits.change(TENANT, {"adapters": 1}, actor="test")
    refused = await rig.client.post(URL, json={"model": BASE, "training_file": file, "suffix": "new"})
    error = refused.json()["error"]
    assert (refused.status_code, error["code"], error["param"]) == (429, "rate_limit_exceeded", "suffix")
    assert (await rig.client.get(URL)).json()["data"] == []


async def test_a_new_version_of_an_adapter_needs_no_room_for_another_name(rig: ApiRig) -> None:
    rig.publish("tone")
    rig.state.limits.change(TENANT, {"adapters": 1}, actor="test")
    assert (await create(rig, suffix="tone"))["status"] == "validating_files"
