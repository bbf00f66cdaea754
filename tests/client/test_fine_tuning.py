"""`client.fine_tuning` and `client.models.delete`, blocking and with asyncio."""

import json

from headmix import AsyncClient, Client
from tests.client.fake_server import FakeServer, Reply
from tests.client.wire import FILE, JOB, JOB_EVENT, listing

URL = f"/v1/fine_tuning/jobs/{JOB['id']}"
JOB_ID, FILE_ID = str(JOB["id"]), str(FILE["id"])


def test_a_job_is_created_with_what_was_given_and_nothing_else(server: FakeServer) -> None:
    server.script("POST", "/v1/fine_tuning/jobs", *[Reply.of(JOB)] * 2)
    with Client(server.url) as client:
        job = client.fine_tuning.create("small", FILE_ID)
        client.fine_tuning.create(
            "small",
            FILE_ID,
            suffix="tone",
            hyperparameters={"n_epochs": 2},
            metadata={"a": "b"},
            options={"task": "classification", "publish": {"canary": 10}},
        )
    assert (job.id, job.status, job.has_ended, job.headmix.progress.steps) == (JOB_ID, "running", False, 20)
    first, second = (json.loads(received.body) for received in server.received)
    assert first == {"model": "small", "training_file": FILE_ID}
    assert second == first | {
        "suffix": "tone",
        "method": {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2}}},
        "metadata": {"a": "b"},
        "headmix": {"task": "classification", "publish": {"canary": 10}},
    }


async def test_both_clients_read_and_change_jobs(server: FakeServer) -> None:
    server.script("GET", URL, *[Reply.of(JOB)] * 2)
    server.script("GET", "/v1/fine_tuning/jobs?limit=100", *[Reply.of(listing(JOB))] * 2)
    server.script("GET", f"{URL}/events?limit=100", *[Reply.of(listing(JOB_EVENT))] * 4)
    for what in ("cancel", "pause", "resume"):
        server.script("POST", f"{URL}/{what}", *[Reply.of(JOB | {"status": f"{what}d"})] * 2)
    server.script("DELETE", "/v1/models/tone%401", *[Reply.of({"id": "tone@1", "deleted": True})] * 2)
    with Client(server.url) as client:
        jobs = client.fine_tuning
        found = (jobs.get(JOB_ID), jobs.list(), jobs.events(JOB_ID), jobs.latest_events(JOB_ID))
        changed = (jobs.cancel(JOB_ID), jobs.pause(JOB_ID), jobs.resume(JOB_ID))
        gone = client.models.delete("tone@1")
    assert [job.status for job in changed] == ["canceld", "paused", "resumed"]
    async with AsyncClient(server.url) as aclient:
        ajobs = aclient.fine_tuning
        assert found == (
            await ajobs.get(JOB_ID),
            await ajobs.list(),
            await ajobs.events(JOB_ID),
            await ajobs.latest_events(JOB_ID),
        )
        assert changed == (await ajobs.cancel(JOB_ID), await ajobs.pause(JOB_ID), await ajobs.resume(JOB_ID))
        assert gone == await aclient.models.delete("tone@1")
