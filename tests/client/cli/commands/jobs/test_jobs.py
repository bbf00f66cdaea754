"""`headmix jobs`."""

import json
from pathlib import Path
from typing import Any

import pytest

from headmix.cli.commands.jobs import follow_job
from tests.client.cli.conftest import Run
from tests.client.fake_server import FakeServer, Reply
from tests.client.wire import BASE_MODEL, FILE, JOB, JOB_EVENT, listing

JOBS = "/v1/fine_tuning/jobs"
JOB_ID, FILE_ID = str(JOB["id"]), str(FILE["id"])
URL, EVENTS = f"{JOBS}/{JOB_ID}", f"{JOBS}/{JOB_ID}/events?limit=100"
EXTRA: dict[str, Any] = JOB["headmix"]  # type: ignore[assignment] # it is one
SUCCEEDED = JOB | {
    "status": "succeeded",
    "fine_tuned_model": "tone@1",
    "result_files": [FILE_ID],
    "headmix": EXTRA
    | {
        "task": "classification",
        "scores": {"adapter": {"accuracy": 0.9}, "linear classifier": {"accuracy": 0.875}},
        "warnings": ["few texts"],
    },
}
FAILED = JOB | {
    "status": "failed",
    "error": {
        "code": "invalid_training_file",
        "message": "x.csv: line 2: bad",
        "param": None,
        "faults": ["line 2: bad"],
    },
}


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headmix.cli.commands.jobs.follow_job.time.sleep", lambda _: None)


def test_one_command_uploads_trains_and_ends_with_scores_and_a_command_to_ask(
    server: FakeServer, run: Run, tmp_path: Path
) -> None:
    data = tmp_path / "texts.csv"
    data.write_text("text,label\na,b\n")
    server.script("POST", "/v1/files", Reply.of(FILE))
    server.script("GET", "/v1/models", Reply.of(listing(BASE_MODEL)))
    server.script("POST", JOBS, Reply.of(JOB))
    server.script("GET", URL, Reply.of(JOB), Reply.of(SUCCEEDED))
    second = JOB_EVENT | {"id": "ftevent-2", "message": "done"}
    server.script("GET", EVENTS, Reply.of(listing(JOB_EVENT)), Reply.of(listing(second, JOB_EVENT)))
    done = run("jobs", "create", "--data", str(data), "--task", "classification", "--name", "intents", "--follow")
    assert done.exit_code == 0, done.output
    assert "0.9" in done.stdout
    assert "0.875" in done.stdout
    assert "tone@1 is ready:" in done.stdout
    assert f"curl -s {server.url}/v1/classify" in done.stdout
    assert '"model": "tone@1"' in done.stdout  # the name alone may be answered by another version
    assert done.stderr.count("Files validated") == 1
    assert done.stderr.count("step 5/20") == 1
    assert "warning: few texts" in done.stderr
    body = json.loads(next(received.body for received in server.received if received.path == JOBS))
    assert body == {
        "model": "small",
        "training_file": FILE_ID,
        "suffix": "intents",
        "headmix": {"task": "classification"},
    }


def test_a_job_that_fails_ends_the_following_with_status_1_and_the_reason(server: FakeServer, run: Run) -> None:
    server.script("GET", URL, *[Reply.of(FAILED)] * 2)
    server.script("GET", EVENTS, Reply.of(listing()))
    done = run("jobs", "follow", JOB_ID)
    assert done.exit_code == 1
    assert "x.csv: line 2: bad" in done.stdout


def test_jobs_are_listed_shown_and_changed(server: FakeServer, run: Run) -> None:
    server.script("GET", f"{JOBS}?limit=100", *[Reply.of(listing(JOB))] * 2)
    server.script("GET", URL, *[Reply.of(JOB)] * 2)
    for what in ("cancel", "pause", "resume"):
        server.script("POST", f"{URL}/{what}", Reply.of(JOB | {"status": what}))
    assert "step 5/20" in run("jobs", "list").stdout
    assert json.loads(run("jobs", "list", "--json").stdout)[0]["id"] == JOB_ID
    assert "1:01 left" in run("jobs", "show", JOB_ID).stdout
    assert json.loads(run("jobs", "show", JOB_ID, "--json").stdout)["seed"] == 7
    for what in ("cancel", "pause", "resume"):
        assert run("jobs", what, JOB_ID).stdout == f"{JOB_ID} is {what}\n"


def test_a_running_job_that_is_to_stop_is_not_said_to_be_running_on(server: FakeServer, run: Run) -> None:
    for what in ("cancel", "pause"):
        server.script("POST", f"{URL}/{what}", Reply.of(JOB | {"status": "running"}))
        assert run("jobs", what, JOB_ID).stdout == f"{JOB_ID} still runs; its worker has been asked to stop\n"


def test_results_are_saved_under_their_names_in_a_folder(server: FakeServer, run: Run, tmp_path: Path) -> None:
    server.script("GET", URL, Reply.of(SUCCEEDED), Reply.of(JOB))
    server.script("GET", f"/v1/files/{FILE_ID}", Reply.of(FILE | {"filename": "../step_metrics.csv"}))
    server.script("GET", f"/v1/files/{FILE_ID}/content", Reply(200, b"step\n"))
    assert run("jobs", "results", JOB_ID, "-o", str(tmp_path / "out")).exit_code == 0
    assert (tmp_path / "out/step_metrics.csv").read_bytes() == b"step\n"
    assert run("jobs", "results", JOB_ID).exit_code == 1


@pytest.mark.parametrize(
    "options", [(), ("--file", "x", "--task", "sums"), ("--file", "x", "--publish", "canary:many")]
)
def test_options_that_make_no_job_are_usage_errors(run: Run, options: tuple[str, ...]) -> None:
    assert run("jobs", "create", *options).exit_code == 2


def test_a_time_left_is_read_at_a_glance() -> None:
    assert [follow_job.duration(seconds) for seconds in (5, 61, 3_725, -1)] == ["0:05", "1:01", "1 h 02 min", "0:00"]
