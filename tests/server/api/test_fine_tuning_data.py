"""A job's data is checked whole before the job is queued: what becomes of it, and each fault with its line."""

import pytest

from harness.server.api_rig import ApiRig
from tests.server.api.test_fine_tuning import CHATS, TEXTS, URL, check_all, create, get, jsonl, stored, upload


@pytest.fixture
def rig_settings(database_url: str) -> dict[str, str]:
    return {"database": database_url}


@pytest.mark.parametrize("names_task", [True, False])
async def test_texts_with_labels_become_a_classifier(rig: ApiRig, names_task: bool) -> None:
    extra = {"headmix": {"task": "classification"}} if names_task else {}
    job = await create(rig, training_file=upload(rig, jsonl(TEXTS)), **extra)
    await check_all(rig)
    job = await get(rig, job)
    assert (job["status"], job["headmix"]["task"], job["headmix"]["preset"]) == (
        "queued",
        "classification",
        "roberta-nlu",
    )
    recipe = stored(rig, job).recipe
    assert recipe is not None
    assert recipe.classifier is not None
    assert recipe.classifier.labels == ("even", "odd")


async def test_labels_with_blanks_fail_the_job_by_name(rig: ApiRig) -> None:
    asked = {"task": "classification", "labels": ["even", " odd"]}
    job = await create(rig, training_file=upload(rig, jsonl(TEXTS)), headmix=asked)
    await check_all(rig)
    error = (await get(rig, job))["error"]
    assert (error["param"], error["message"].partition(";")[0]) == (
        "headmix",
        "label ' odd' begins or ends with a blank",
    )


async def test_chats_whose_answers_are_labels_become_a_classifier_when_asked(rig: ApiRig) -> None:
    system = {"role": "system", "content": "Even or odd?"}
    chats = [
        {
            "messages": [
                system,
                {"role": "user", "content": row["text"]},
                {"role": "assistant", "content": row["label"]},
            ]
        }
        for row in TEXTS
    ]
    job = await create(rig, training_file=upload(rig, jsonl(chats)), headmix={"task": "classification"})
    await check_all(rig)
    recipe = stored(rig, await get(rig, job)).recipe
    assert recipe is not None
    assert recipe.classifier is not None
    assert recipe.classifier.labels == ("even", "odd")
    events = (await rig.client.get(f"{URL}/{job['id']}/events")).json()["data"]
    assert any(event["level"] == "warn" and "system message" in event["message"] for event in events)


async def test_each_faulty_line_of_the_training_file_is_named_and_the_job_fails(rig: ApiRig) -> None:
    content = jsonl(CHATS[:2]) + b"no json\n" + jsonl(CHATS[2:4]) + b'{"messages": []}\n'
    job = await create(rig, training_file=upload(rig, content, "chats.jsonl"))
    await check_all(rig)
    job = await get(rig, job)
    assert (job["status"], job["fine_tuned_model"], job["error"]["code"]) == ("failed", None, "invalid_training_file")
    assert job["error"]["param"] == "training_file"
    assert job["error"]["message"].startswith("chats.jsonl: line 3: ")
    assert [fault.partition(":")[0] for fault in job["error"]["faults"]] == ["line 3", "line 6"]
    assert job["finished_at"] is not None
    newest = (await rig.client.get(f"{URL}/{job['id']}/events")).json()["data"][0]
    assert (newest["level"], newest["message"]) == ("error", job["error"]["message"])


async def test_a_file_of_one_question_needs_a_validation_file(rig: ApiRig) -> None:
    chats = [
        {"messages": [{"role": "user", "content": "A tale?"}, {"role": "assistant", "content": f"Once {number}"}]}
        for number in range(4)
    ]
    file = upload(rig, jsonl(chats), "tales.jsonl")
    alone = await create(rig, training_file=file)
    scored = await create(rig, training_file=file, validation_file=upload(rig, jsonl(CHATS)))
    await check_all(rig)
    alone, scored = await get(rig, alone), await get(rig, scored)
    assert (alone["status"], scored["status"]) == ("failed", "queued")
    assert (alone["error"]["code"], alone["error"]["param"]) == ("invalid_training_file", "training_file")
    assert alone["error"]["message"].startswith("tales.jsonl: all rows ask the same")


async def test_a_label_of_the_validation_file_that_training_lacks_is_named(rig: ApiRig) -> None:
    validation = upload(rig, jsonl([{"text": "three", "label": "prime"}]), "held-out.jsonl")
    job = await create(rig, training_file=upload(rig, jsonl(TEXTS)), validation_file=validation)
    await check_all(rig)
    error = (await get(rig, job))["error"]
    assert (error["code"], error["param"]) == ("invalid_validation_file", "validation_file")
    assert "held-out.jsonl: line 1: label 'prime'" in error["message"]


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (bytes(range(256)) * 10, "not UTF-8 text"),
        (jsonl(CHATS[:1]) + b'{"text": "' + b"x" * (5 << 20) + b'"}\n', "line 2: "),
        (b"", "no rows"),
        (b"[" * 100_000, "line 1: "),
    ],
)
async def test_a_poisoned_file_is_refused_with_its_line(rig: ApiRig, content: bytes, fault: str) -> None:
    job = await create(rig, training_file=upload(rig, content))
    await check_all(rig)
    job = await get(rig, job)
    assert job["status"] == "failed"
    assert job["error"]["message"].startswith(f"data.jsonl: {fault}"), job["error"]
