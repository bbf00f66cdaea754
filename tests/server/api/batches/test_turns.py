"""Tenants take turns at the places of batches, and a queued batch that is to end needs no place."""

from functools import partialmethod

import pytest
from sqlalchemy import update

from harness.server.api_rig import OTHER_TENANT, TENANT
from harness.server.batch_rig import URL, BatchRig, Json, chat_line
from headmix_server.batches import runner, turns
from headmix_server.batches.runner import BatchRunner, batch_claims
from headmix_server.core.messages import Generate
from headmix_server.database import writing
from headmix_server.jobs.tables import JobRow
from tests.server.api.batches.test_running import counts, until


async def fill_all_places(batches: BatchRig, monkeypatch: pytest.MonkeyPatch) -> list[Json]:
    """Create slow batches of a tenant, one more than run at once."""
    monkeypatch.setattr(runner, "OVERDUE_SECONDS", 0.1)
    batches.rig.state.limits.change(TENANT, {"requests_per_minute": 1}, actor="test")
    return [await batches.create([chat_line(f"{n}.{m}") for m in range(3)]) for n in range(runner.AT_ONCE + 1)]


async def of_other(batches: BatchRig, lines: list[Json]) -> str:
    """Create a batch of the other tenant; return its id."""
    file = batches.upload(lines, tenant=OTHER_TENANT)
    response = await batches.rig.other.post(URL, json={"input_file_id": file, "endpoint": "/v1/chat/completions"})
    return str(response.json()["id"])


async def test_slow_batches_of_one_tenant_do_not_keep_out_another(
    batches: BatchRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "TURN_SECONDS", 0.0)
    rig = batches.rig
    slow = await fill_all_places(batches, monkeypatch)
    async with batches.running():
        await until(lambda: rig.state.jobs.counts().get(("batch", "running")) == runner.AT_ONCE)
        other = await of_other(batches, [chat_line("x"), chat_line("y")])
        await until(lambda: rig.state.jobs.get(OTHER_TENANT, other).state == "succeeded")
        assert [(await batches.get(one["id"]))["completed_at"] for one in slow] == [None] * len(slow)


async def test_a_batch_that_gives_its_place_keeps_its_answers_and_its_versions(
    batches: BatchRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "TURN_SECONDS", 0.0)
    monkeypatch.setattr(turns, "LEAVE_SECONDS", 0.1)
    monkeypatch.setattr(BatchRunner, "__init__", partialmethod(BatchRunner.__init__, at_once=1))
    rig, engine = batches.rig, batches.rig.engine
    first = rig.publish("poet")
    rig.publish("poet", b"second")
    engine.answering = False
    made = await batches.create([chat_line(str(n), "poet@1") for n in range(3)])
    async with batches.running():
        messages = await engine.expect(Generate, 3)
        other = await of_other(batches, [chat_line("x")])
        await engine.send(*engine.answer(messages[1]))
        messages = await engine.expect(Generate, 4)  # the other's has the place
        assert (await batches.get(made["id"]))["request_counts"] == counts(3, 1, 0)
        rig.state.library.delete_version(TENANT, "poet", 1)
        engine.answering = True
        await engine.send(*engine.answer(messages[3]))
        ended = await batches.ended(made["id"])
        assert rig.state.jobs.get(OTHER_TENANT, other).state == "succeeded"
        assert ended["request_counts"] == counts(3, 3, 0)
        assert set(batches.results(ended)) == set("012")
        asked = [message.adapter.digest for message in engine.of(Generate) if message.adapter is not None]
        assert asked == [first.digest] * 5
        await until(lambda: not rig.state.library.holds.is_held(first.digest))


async def test_a_queued_batch_ends_with_its_window_or_its_cancellation_though_no_place_is_free(
    batches: BatchRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = batches.rig.state
    await fill_all_places(batches, monkeypatch)
    made = await batches.create([chat_line("a")])
    with writing(state.database) as session:  # they come last
        session.execute(update(JobRow).where(JobRow.id != made["id"]).values(created=JobRow.created - 10))
    claims = batch_claims(state.database)
    claim = claims.claim_this(made["id"])
    assert claim is not None
    claims.requeue(claim, attempts=0)  # it has had a turn
    expiring = await batches.create([chat_line("b")])
    request = state.jobs.get(TENANT, expiring["id"]).request
    past = request.replace(f'"expires":{expiring["expires_at"]}', '"expires":1')
    async with batches.running():
        await until(lambda: state.jobs.counts().get(("batch", "running")) == runner.AT_ONCE)
        with writing(state.database) as session:
            for one, column, value in ((made, JobRow.wanted, "cancel"), (expiring, JobRow.request, past)):
                session.execute(update(JobRow).where(JobRow.id == one["id"]).values({column: value}))
        ended = [await batches.ended(one["id"]) for one in (made, expiring)]
        assert state.jobs.counts()["batch", "running"] == runner.AT_ONCE
    assert [one["status"] for one in ended] == ["cancelled", "expired"]
    assert [one["output_file_id"] for one in ended] == [None, None]
