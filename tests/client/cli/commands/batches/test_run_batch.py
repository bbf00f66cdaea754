"""`headmix run-batch` against a server, and with one of its own."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness.server.running_server import FAKE_BASE, write_fake_base
from headmix.cli import build_app
from tests.client.cli.conftest import Run
from tests.client.fake_server import FakeServer, Reply

COMPLETIONS = "/v1/completions"


def written(folder: Path, *names: str, **body: object) -> Path:
    file = folder / "in.jsonl"
    lines = [{"custom_id": name, "method": "POST", "url": COMPLETIONS, "body": body} for name in names]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return file


def answers(file: Path) -> dict[str, int]:
    read = [json.loads(text) for text in file.read_text(encoding="utf-8").splitlines()]
    assert len({answer["custom_id"] for answer in read}) == len(read)
    return {answer["custom_id"]: answer["response"]["status_code"] for answer in read}


def test_every_line_is_answered_and_the_exit_status_tells_of_failed_ones(
    server: FakeServer, run: Run, tmp_path: Path
) -> None:
    source, target = written(tmp_path, "a", "b", "c"), tmp_path / "out.jsonl"
    server.script("POST", COMPLETIONS, Reply.of({}), Reply.error(400, "invalid_request_error"), Reply.of({}))
    done = run("run-batch", "-i", str(source), "-o", str(target), "--window", "1")
    assert (done.exit_code, done.stderr) == (1, f"2 answered, 1 failed: {target}\n")
    assert answers(target) == {"a": 200, "b": 400, "c": 200}


def test_the_same_command_goes_on_with_what_has_no_answer(server: FakeServer, run: Run, tmp_path: Path) -> None:
    source, target = written(tmp_path, "a", "b"), tmp_path / "out.jsonl"
    server.script("POST", COMPLETIONS, Reply.of({}))
    assert run("run-batch", "-i", str(source), "-o", str(target)).exit_code == 0
    source = written(tmp_path, "a", "b", "c")
    assert run("run-batch", "-i", str(source), "-o", str(target)).exit_code == 0
    assert len(server.received) == 3
    assert answers(target) == {"a": 200, "b": 200, "c": 200}


def test_a_faulty_input_sends_nothing(server: FakeServer, run: Run, tmp_path: Path) -> None:
    source = written(tmp_path, "a", "a")
    done = run("run-batch", "-i", str(source), "-o", str(tmp_path / "out.jsonl"))
    assert done.exit_code == 1
    assert "line 2: the custom_id is that of line 1 too" in done.stderr
    assert server.received == []
    assert not (tmp_path / "out.jsonl").exists()


@pytest.mark.parametrize("options", [("--adapter", "a=b"), ("--serve=--threads=1",), ("--base", "x", "--url", "y")])
def test_options_that_do_not_go_together_are_wrong_usage(run: Run, tmp_path: Path, options: tuple[str, ...]) -> None:
    source = written(tmp_path, "a")
    assert run("run-batch", "-i", str(source), "-o", str(tmp_path / "out.jsonl"), *options).exit_code == 2


def test_without_a_server_one_is_started_for_the_run(tmp_path: Path) -> None:
    base = write_fake_base(tmp_path / FAKE_BASE)
    source, target = written(tmp_path, "a", "b", model=FAKE_BASE, prompt="Hi", max_tokens=3), tmp_path / "out.jsonl"
    options = ["-i", str(source), "-o", str(target), "--base", str(base), "--serve=--runner=fake"]
    done = CliRunner().invoke(build_app(), ["run-batch", *options], prog_name="headmix")
    assert done.exit_code == 0, done.stderr
    assert answers(target) == {"a": 200, "b": 200}


def test_a_server_that_does_not_start_ends_the_run(tmp_path: Path) -> None:
    source, target = written(tmp_path, "a"), tmp_path / "out.jsonl"
    options = ["-i", str(source), "-o", str(target), "--base", str(tmp_path / "nowhere")]
    done = CliRunner().invoke(build_app(), ["run-batch", *options], prog_name="headmix")
    assert done.exit_code == 1
    assert "before it was ready" in done.stderr
