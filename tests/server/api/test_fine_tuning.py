"""Fine-tuning jobs over HTTP, without a worker: created, checked, listed, cancelled, paused, resumed; events."""

import errno
import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from harness.server.api_rig import BASE, OTHER_TENANT, TENANT, ApiRig, database_of
from headmix_server.app.jobs.job_keeper import job_keeper
from headmix_server.core.errors import InsufficientStorage
from headmix_server.database import open_database
from headmix_server.files.stored_file import Purpose
from headmix_server.fine_tuning import stage
from headmix_server.fine_tuning.check.checker import Checker
from headmix_server.fine_tuning.keeper import JobKeeper
from headmix_server.fine_tuning.request import KIND, FineTuning, read_request
from headmix_server.jobs.job import NewEvent
from headmix_server.tenancy.keys.principal import Scope

URL = "/v1/fine_tuning/jobs"
CHATS = [
    {"messages": [{"role": "user", "content": f"Say {n}."}, {"role": "assistant", "content": f"Number {n}."}]}
    for n in range(12)
]
TEXTS = [{"text": f"this is text {n}", "label": "even" if n % 2 == 0 else "odd"} for n in range(12)]


@pytest.fixture
def rig_settings(database_url: str) -> dict[str, str]:
    return {"database": database_url}


def jsonl(rows: Sequence[Mapping[str, Any]]) -> bytes:
    return "".join(f"{json.dumps(row)}\n" for row in rows).encode()


def upload(rig: ApiRig, content: bytes, filename: str = "data.jsonl", *, tenant: str = TENANT) -> str:
    return rig.state.files.put(tenant, Purpose.FINE_TUNE, filename, [content]).id


async def create(rig: ApiRig, **body: Any) -> dict[str, Any]:
    file = body.pop("training_file", None) or upload(rig, jsonl(CHATS))
    answer = await rig.client.post(URL, json={"model": BASE, "training_file": file, **body})
    assert answer.status_code == 200, answer.text
    job: dict[str, Any] = answer.json()
    return job


@contextmanager
def keeping(rig: ApiRig) -> Iterator[JobKeeper]:
    settings = rig.state.settings
    database = open_database(database_of(settings))
    try:
        yield job_keeper(rig.state, database, settings.data_dir / f"checks-{secrets.token_hex(4)}")
    finally:
        database.dispose()


async def check_all(rig: ApiRig) -> None:
    with keeping(rig) as keeper:
        while await keeper.round():
            pass


def stored(rig: ApiRig, job: Mapping[str, Any]) -> FineTuning:
    return read_request(rig.state.jobs.get(TENANT, job["id"]).request)


async def get(rig: ApiRig, job: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = (await rig.client.get(f"{URL}/{job['id']}")).json()
    return found


async def test_a_new_job_is_checked_and_then_queued_with_every_hyperparameter_a_figure(rig: ApiRig) -> None:
    job = await create(rig, suffix="My Poet", seed=3, metadata={"team": "a"})
    assert job["status"] == "validating_files"
    assert job["hyperparameters"] == {"n_epochs": "auto", "batch_size": "auto", "learning_rate_multiplier": "auto"}
    assert (job["headmix"]["name"], job["user_provided_suffix"], job["seed"]) == ("my-poet", "My Poet", 3)
    await check_all(rig)
    job = await get(rig, job)
    assert (job["status"], job["error"], job["fine_tuned_model"]) == ("queued", None, None)
    assert job["hyperparameters"] == {"n_epochs": 10, "batch_size": 8, "learning_rate_multiplier": 1.0}
    assert job["method"]["supervised"]["hyperparameters"] == job["hyperparameters"]
    assert (job["headmix"]["task"], job["headmix"]["preset"], job["headmix"]["examples"]) == (
        "generation",
        "gpt2-nlg",
        11,
    )


async def test_a_file_deleted_after_the_job_was_created_is_trained_on_all_the_same(rig: ApiRig) -> None:
    file = upload(rig, jsonl(CHATS))
    job = await create(rig, training_file=file)
    rig.state.files.delete(TENANT, file)
    await check_all(rig)
    assert (await get(rig, job))["status"] == "queued"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"training_file": "file-none"}, "training_file"),
        ({"validation_file": "file-none"}, "validation_file"),
        ({"suffix": "!!!"}, "suffix"),
        ({"suffix": BASE}, "suffix"),
        ({"integrations": [{"type": "wandb", "wandb": {"project": "p"}}]}, "integrations"),
        ({"method": {"type": "dpo"}}, "method.type"),
        ({"method": {"type": "reinforcement"}}, "method.type"),
        ({"method": {"type": ["dpo"]}}, "method.type"),
        ({"hyperparameters": {"n_epochs": 0}}, "hyperparameters.n_epochs"),
        ({"seed": -1}, "seed"),
        ({"metadata": {"k": "v" * 513}}, "metadata.k"),
        ({"metadata": {str(n): "" for n in range(17)}}, "metadata"),
        ({"headmix": {"labels": ["x" * 257]}}, "headmix.labels"),
        ({"headmix": {"labels": ["a"] * 4097}}, "headmix.labels"),
        ({"headmix": {"labels": [f"{n}".rjust(256) for n in range(513)]}}, "headmix.labels"),
        ({"headmix": {"ignore": ["x" * 257]}}, "headmix.ignore"),
        ({"headmix": {"sites": ["q"]}}, "headmix"),
        ({"headmix": {"ranks": 4}}, "headmix"),
        ({"headmix": {"ranks": {"q": 0}}}, "headmix.ranks"),
        ({"headmix": {"publish": {"canary": 101}}}, "headmix.publish"),
        ({"colour": "red"}, "colour"),
    ],
)
async def test_a_request_that_cannot_be_done_is_refused_by_its_parameter(
    rig: ApiRig, body: dict[str, Any], param: str
) -> None:
    answer = await rig.client.post(URL, json={"model": BASE, "training_file": upload(rig, jsonl(CHATS)), **body})
    error = answer.json()["error"]
    assert answer.status_code == 400, error
    assert error["param"].startswith(param), error
    assert (await rig.client.get(URL)).json()["data"] == []


@pytest.mark.parametrize(
    ("method", "param"),
    [
        ({"type": "dpo"}, "method.type"),
        ({"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.1}}}, "method.type"),
        ({"dpo": {"hyperparameters": {"beta": 0.1}}, "type": "dpo", "supervised": None}, "method.type"),
        ({"dpo": {}}, "method.dpo"),
    ],
)
async def test_another_method_is_refused_by_its_name_with_or_without_its_parameters(
    rig: ApiRig, method: dict[str, Any], param: str
) -> None:
    body = {"model": BASE, "training_file": upload(rig, jsonl(CHATS)), "method": method}
    error = (await rig.client.post(URL, json=body)).json()["error"]
    assert (error["message"], error["param"]) == ("The method 'dpo' is not supported: only 'supervised' is.", param)


async def test_a_file_for_another_purpose_is_not_trained_on(rig: ApiRig) -> None:
    file = rig.state.files.put(TENANT, Purpose.BATCH, "requests.jsonl", [b"{}"]).id
    answer = await rig.client.post(URL, json={"model": BASE, "training_file": file})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "training_file")
    assert "'batch'" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    "filename", ["x.parquet", "x.PARQUET", "x.parquet/", "x.jsonl.parquet", "x.parquet\\", "x.xlsx", "notes.txt"]
)
async def test_a_file_whose_name_is_that_of_another_format_is_refused_before_it_is_read(
    rig: ApiRig, filename: str
) -> None:
    file = upload(rig, b"PAR1", filename)
    for param in ("training_file", "validation_file"):
        body = {"model": BASE, "training_file": upload(rig, jsonl(CHATS)), param: file}
        answer = await rig.client.post(URL, json=body)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
        assert ".jsonl, .json, .csv, .tsv" in answer.json()["error"]["message"]


async def test_only_the_base_is_trained_from(rig: ApiRig) -> None:
    rig.publish("tone")
    for model, status in (("tone", 400), ("gpt-4o-mini", 404)):
        answer = await rig.client.post(URL, json={"model": model, "training_file": upload(rig, jsonl(CHATS))})
        assert (answer.status_code, answer.json()["error"]["param"]) == (status, "model")


async def test_another_tenants_job_or_file_does_not_exist(rig: ApiRig) -> None:
    job = await create(rig)
    missing = {}
    for path, method in (
        ("", "GET"),
        ("/events", "GET"),
        ("/checkpoints", "GET"),
        ("/cancel", "POST"),
        ("/pause", "POST"),
        ("/resume", "POST"),
    ):
        answers = [await rig.other.request(method, f"{URL}/{name}{path}") for name in (job["id"], "ftjob-none")]
        missing[path] = {answer.status_code for answer in answers}
        texts = {answer.text.replace(job["id"], "ftjob-none") for answer in answers}
        assert len(texts) == 1, texts
    assert set(map(frozenset, missing.values())) == {frozenset({404})}
    foreign = {"model": BASE, "training_file": upload(rig, jsonl(CHATS), tenant=OTHER_TENANT)}
    assert (await rig.client.post(URL, json=foreign)).status_code == 400
    assert (await rig.other.get(URL)).json() == {"object": "list", "data": [], "has_more": False}


async def test_changing_jobs_takes_the_scope_adapters(rig: ApiRig) -> None:
    job = await create(rig)
    key = rig.key(Scope.INFERENCE)
    assert (await rig.client.get(f"{URL}/{job['id']}", headers=key)).status_code == 200
    assert (await rig.client.post(f"{URL}/{job['id']}/cancel", headers=key)).status_code == 403
    assert (await rig.client.post(URL, json={"model": BASE, "training_file": "x"}, headers=key)).status_code == 403


async def test_a_job_is_paused_resumed_and_cancelled_and_stays_so(rig: ApiRig) -> None:
    job = await create(rig)
    await check_all(rig)
    url = f"{URL}/{job['id']}"
    assert [(await rig.client.post(f"{url}/{what}")).json()["status"] for what in ("pause", "resume", "cancel")] == [
        "paused",
        "queued",
        "cancelled",
    ]
    assert (await rig.client.post(f"{url}/cancel")).json()["status"] == "cancelled"
    refused = await rig.client.post(f"{url}/resume")
    assert (refused.status_code, refused.json()["error"]["message"]) == (
        400,
        "A job that is cancelled cannot be resumed.",
    )


async def test_the_audit_names_who_created_paused_resumed_and_cancelled_a_job_and_what_failed(rig: ApiRig) -> None:
    job = await create(rig)
    await check_all(rig)
    for what in ("pause", "pause", "resume", "resume", "cancel", "cancel"):
        await rig.client.post(f"{URL}/{job['id']}/{what}")
    failed = await create(rig, training_file=upload(rig, b"x"))
    await check_all(rig)
    entries = rig.state.audit.entries(tenant=TENANT, before=None, limit=100)
    found = [(entry.action, entry.subject) for entry in reversed(entries) if entry.action.startswith("fine_tuning.")]
    assert found == [
        *((f"fine_tuning.{what}", job["id"]) for what in ("create", "pause", "resume", "cancel")),
        *((f"fine_tuning.{what}", failed["id"]) for what in ("create", "fail")),
    ]
    actors = {entry.action: entry.actor for entry in entries}
    (key,) = {actors[f"fine_tuning.{what}"] for what in ("create", "pause", "resume", "cancel")}
    assert key.startswith("key_")
    assert actors["fine_tuning.fail"] == "server"


async def test_a_job_cancelled_while_its_data_is_checked_is_not_queued(rig: ApiRig) -> None:
    job = await create(rig)
    await rig.client.post(f"{URL}/{job['id']}/cancel")
    await check_all(rig)
    assert (await get(rig, job))["status"] == "cancelled"


async def test_jobs_are_listed_newest_first_by_page_and_by_metadata(rig: ApiRig) -> None:
    file = upload(rig, jsonl(CHATS))
    made = [
        await create(rig, training_file=file, metadata=metadata) for metadata in (None, {"a": "1"}, {"a": "1", "b": ""})
    ]
    ids = [job["id"] for job in made]
    listed = {job["id"] for job in (await rig.client.get(URL)).json()["data"]}
    assert listed == set(ids)
    pages, after = [], None
    while True:
        page = (await rig.client.get(URL, params={"limit": 2} | ({"after": after} if after else {}))).json()
        pages += [job["id"] for job in page["data"]]
        if not page["has_more"]:
            break
        after = page["data"][-1]["id"]
    assert sorted(pages) == sorted(ids)
    assert len(pages) == len(ids)
    for query, expected in (
        ({"metadata[a]": "1"}, ids[1:]),
        ({"metadata[a]": "1", "metadata[b]": ""}, ids[2:]),
        ({"metadata[a]": "2"}, []),
        ({"metadata": "null"}, ids[:1]),
    ):
        found = (await rig.client.get(URL, params=query)).json()["data"]
        assert sorted(job["id"] for job in found) == sorted(expected), query


async def test_events_are_paged_newest_first_and_streamed_oldest_first_until_the_end(rig: ApiRig) -> None:
    job = await create(rig)
    for number in range(3):
        rig.state.jobs.add_event(job["id"], NewEvent(f"event {number}"))
    figures = json.dumps({"step": 1, "train_loss": 0.5})
    rig.state.jobs.add_event(job["id"], NewEvent("Step 1", type="metrics", data=figures))
    url = f"{URL}/{job['id']}/events"
    first = (await rig.client.get(url, params={"limit": 3})).json()
    assert ([event["message"] for event in first["data"]], first["has_more"]) == (
        ["Step 1", "event 2", "event 1"],
        True,
    )
    assert (first["data"][0]["type"], first["data"][0]["data"]) == ("metrics", {"step": 1, "train_loss": 0.5})
    rest = (await rig.client.get(url, params={"after": first["data"][-1]["id"]})).json()
    assert rest["data"][0]["message"] == "event 0"
    await rig.client.post(f"{URL}/{job['id']}/cancel")
    streamed = await rig.client.get(url, params={"stream": "true", "after": first["data"][1]["id"]})
    lines = [line.removeprefix("data: ") for line in streamed.text.split("\n\n") if line]
    assert [json.loads(line)["message"] for line in lines[:-1]] == ["Step 1", "The job is cancelled."]
    assert lines[-1] == "[DONE]"
    wrong = await rig.client.get(url, params={"after": "ftevent-other-1"})
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "after")


async def test_a_tenant_has_at_most_its_limit_of_unfinished_jobs(rig: ApiRig) -> None:
    rig.state.limits.change(TENANT, {"training_jobs": 1}, actor="test")
    job = await create(rig)
    refused = await rig.client.post(URL, json={"model": BASE, "training_file": upload(rig, jsonl(CHATS))})
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limit_exceeded")
    await rig.client.post(f"{URL}/{job['id']}/cancel")
    await create(rig)


async def test_a_job_that_would_read_more_tokens_than_a_day_allows_fails_with_the_figures(rig: ApiRig) -> None:
    rig.state.limits.change(TENANT, {"training_tokens_per_day": 50}, actor="test")
    job = await create(rig)
    await check_all(rig)
    job = await get(rig, job)
    assert (job["status"], job["error"]["code"]) == ("failed", "rate_limit_exceeded")
    assert "50 per day" in job["error"]["message"]


async def test_a_bug_in_the_check_ends_the_job_after_three_tries_and_a_full_disk_does_not(
    rig: ApiRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await create(rig)
    full = [InsufficientStorage("full"), OSError(errno.ENOSPC, "full")] * stage.MOST_TRIES
    failures = [*full, *[RuntimeError("a bug")] * stage.MOST_TRIES]

    async def fail(*_: object) -> None:
        raise failures.pop(0)

    monkeypatch.setattr(Checker, "check", fail)
    monkeypatch.setattr(stage, "REST_SECONDS", 0.0)
    with keeping(rig) as keeper:
        while failures:
            assert (await get(rig, job))["status"] == "validating_files"
            await keeper.round()
    error = (await get(rig, job))["error"]
    assert (error["code"], error["message"]) == ("internal_error", "An internal error ended the job (RuntimeError).")


async def test_each_tenant_has_its_turn_before_a_second_job_of_the_first(rig: ApiRig) -> None:
    for _ in range(2):
        await create(rig)
    file = upload(rig, jsonl(CHATS), tenant=OTHER_TENANT)
    assert (await rig.other.post(URL, json={"model": BASE, "training_file": file})).status_code == 200
    with keeping(rig) as keeper:
        await keeper.round()
    states = [job.state for job in rig.state.jobs.in_states(KIND, {"queued", "validating"})]
    tenants = {job.tenant for job in rig.state.jobs.in_states(KIND, {"queued"})}
    assert (sorted(states), tenants) == (["queued", "queued", "validating"], {TENANT, OTHER_TENANT})
