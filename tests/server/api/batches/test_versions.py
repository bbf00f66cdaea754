"""All lines of a batch use the versions that their names meant when it began, and no others."""

from harness.server.api_rig import TENANT
from harness.server.batch_rig import BatchRig, chat_line
from headmix_server.core.messages import Generate
from tests.server.api.batches.test_running import counts


async def test_a_batch_keeps_its_versions_even_if_they_are_replaced_and_deleted(narrow: BatchRig) -> None:
    batches, rig, engine = narrow, narrow.rig, narrow.rig.engine
    first = rig.publish("poet")
    engine.answering = False
    made = await batches.create([chat_line(str(n), "poet") for n in range(3)])
    async with batches.running():
        messages = await engine.expect(Generate, 1)
        second = rig.publish("poet", b"second")
        rig.state.library.delete_version(TENANT, "poet", 1)
        await engine.send(*engine.answer(messages[0]))
        engine.answering = True
        messages = await engine.expect(Generate, 2)
        await engine.send(*engine.answer(messages[1]))
        ended = await batches.ended(made["id"])
    assert ended["request_counts"] == counts(3, 3, 0)
    digests = {message.adapter.digest for message in engine.of(Generate) if message.adapter is not None}
    assert digests == {first.digest} != {second.digest}
    assert not rig.state.library.holds.is_held(first.digest)


async def test_a_restarted_server_goes_on_with_the_versions_of_the_batch(batches: BatchRig) -> None:
    rig, engine = batches.rig, batches.rig.engine
    first = rig.publish("poet")
    engine.answering = False
    made = await batches.create([chat_line("a", "poet")])
    async with batches.running():
        await engine.expect(Generate, 1)
    rig.publish("poet", b"second")
    engine.answering = True
    async with batches.running():
        await batches.ended(made["id"])
    digests = {message.adapter.digest for message in engine.of(Generate) if message.adapter is not None}
    assert digests == {first.digest}


async def test_lines_whose_version_was_deleted_while_the_server_was_down_get_no_other(narrow: BatchRig) -> None:
    batches, rig, engine = narrow, narrow.rig, narrow.rig.engine
    rig.publish("poet")
    second = rig.publish("poet", b"second")
    engine.answering = False
    lines = [
        chat_line("a", "poet"),
        chat_line("b", "poet"),
        chat_line("c", "poet"),
        chat_line("d", adapters=[{"name": "poet"}]),
    ]
    made = await batches.create(lines)
    async with batches.running():
        messages = await engine.expect(Generate, 1)
        await engine.send(*engine.answer(messages[0]))
        await engine.expect(Generate, 2)
    assert (await rig.client.delete("/v1/models/poet@2")).status_code == 200
    engine.answering = True
    async with batches.running():
        ended = await batches.ended(made["id"])
    assert ended["request_counts"] == counts(4, 1, 3)
    answers = [line["response"] for line in batches.lines(ended["error_file_id"])]
    errors = [(answer["status_code"], answer["body"]["error"]) for answer in answers]
    assert [(status, error["code"]) for status, error in errors] == [(404, "model_not_found")] * 3
    assert [error["param"] for _, error in errors] == ["model", "model", "adapters"]
    assert all("'poet@2'" in error["message"] for _, error in errors)
    digests = {message.adapter.digest for message in engine.of(Generate) if message.adapter is not None}
    assert digests == {second.digest}


async def test_a_name_that_means_nothing_when_the_batch_starts_means_nothing_to_its_end(narrow: BatchRig) -> None:
    batches, rig, engine = narrow, narrow.rig, narrow.rig.engine
    engine.answering = False
    made = await batches.create([chat_line("a"), chat_line("b", "late"), chat_line("c"), chat_line("d", "late")])
    async with batches.running():
        messages = await engine.expect(Generate, 1)
        rig.publish("late")
        await engine.send(*engine.answer(messages[0]))
        await engine.expect(Generate, 2)
    engine.answering = True
    async with batches.running():
        ended = await batches.ended(made["id"])
    assert ended["request_counts"] == counts(4, 2, 2)
    assert {line["custom_id"] for line in batches.lines(ended["error_file_id"])} == {"b", "d"}
