"""A script with OpenAI's SDK, nothing of headmix: data in, a model that answers out, on a real server and trainer."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
from openai import OpenAI
from openai.types.fine_tuning import FineTuningJob
from typer.testing import CliRunner

from harness.bases.tiny_model import make_tiny_llama
from harness.server.running_server import RunningServer, running_server
from headmix.cli.app import build_app

pytestmark = pytest.mark.slow

CHATS = 300
PATIENCE_SECONDS = 240.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("fine-tuning")
    make_tiny_llama(folder / "tiny")
    with running_server(folder, base=folder / "tiny", runner="torch", train="here", train_threads=1) as running:
        yield running


def ended(client: OpenAI, job: FineTuningJob) -> FineTuningJob:
    """Return the job once it has ended."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while job.status not in ("succeeded", "failed", "cancelled"):
        assert time.monotonic() < deadline, job
        time.sleep(0.2)
        job = client.fine_tuning.jobs.retrieve(job.id)
    return job


@pytest.mark.timeout(PATIENCE_SECONDS * 2)
def test_openais_sdk_uploads_chats_follows_a_job_and_chats_with_its_model(server: RunningServer) -> None:
    client = OpenAI(base_url=f"{server.base_url}/v1", api_key=server.key, max_retries=0)
    base = client.models.list().data[0].id
    lines = [
        {
            "messages": [
                {"role": "user", "content": f"the fox {n}"},
                {"role": "assistant", "content": "jumps" if n % 2 else "sleeps"},
            ]
        }
        for n in range(CHATS)
    ]
    content = "".join(f"{json.dumps(line)}\n" for line in lines).encode()
    file = client.files.create(file=("chats.jsonl", content), purpose="fine-tune")
    job = client.fine_tuning.jobs.create(
        model=base,
        training_file=file.id,
        suffix="fox",
        seed=1,
        method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 1, "batch_size": 32}}},
    )
    job = ended(client, job)
    events = list(client.fine_tuning.jobs.list_events(job.id, limit=20))
    assert job.status == "succeeded", [event.message for event in events]
    assert job.fine_tuned_model == "fox@1"
    assert job.trained_tokens
    assert "The job has successfully completed" in {event.message for event in events}
    assert any(event.type == "metrics" for event in events)
    table, *_ = (client.files.content(result).text for result in job.result_files)
    assert table.startswith("step,train_loss,")
    assert len(job.result_files) >= 2  # pictures too
    messages = [{"role": "user", "content": "the fox 7"}]
    answer = client.chat.completions.create(model=job.fine_tuned_model, messages=messages, max_tokens=4)  # type: ignore[arg-type] # messages
    assert answer.choices[0].finish_reason in ("stop", "length")
    assert client.models.delete(job.fine_tuned_model).deleted
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve(job.fine_tuned_model)


@pytest.mark.timeout(PATIENCE_SECONDS * 2)
def test_one_command_makes_a_served_classifier_of_a_table(server: RunningServer, tmp_path: Path) -> None:
    data = tmp_path / "intents.csv"
    rows = [f"the quick brown fox {n},{'odd' if n % 2 else 'even'}" for n in range(200)]
    data.write_text("\n".join(["text,label", *rows]), encoding="utf-8")
    command = ["jobs", "create", "--data", str(data), "--task", "classification", "--name", "intents", "--epochs", "1"]
    done = CliRunner().invoke(
        build_app(), ["--base-url", server.base_url, "--api-key", server.key, *command, "--follow"]
    )
    assert done.exit_code == 0, done.output
    assert "linear classifier" in done.stdout
    assert "intents@1 is ready:" in done.stdout
    client = OpenAI(base_url=f"{server.base_url}/v1", api_key=server.key)
    assert client.models.retrieve("intents").model_dump()["labels"] == ["even", "odd"]
