"""What a log line looks like, and that writing one never fails."""

import io
import json
import logging
import os
import sys

import pytest

from headmix_server.core.observability.logging import LogFormat, LogStream, configure_logging, get_logger

DIGEST = "sha256:" + "a" * 64


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_json_has_an_object_per_line_with_everything_in_it(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info", "api", "json")
    get_logger("catalog").warning("artifact\nlost\x1b[2J", digest=DIGEST, tenant="")
    [line] = capsys.readouterr().err.splitlines()
    event = json.loads(line)
    assert event.pop("timestamp").endswith("Z")
    assert event == {
        "part": "catalog",
        "process": "api",
        "level": "warning",
        "event": "artifact\nlost\x1b[2J",
        "digest": DIGEST,
        "tenant": "",
    }
    assert "\x1b" not in line


def test_a_person_reads_time_event_and_fields_with_what_only_programs_need_left_out(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure_logging("info", "api", "console")
    get_logger("app").info("preloaded", name="spam@1", digest=DIGEST, adapter=None, tenant="", folder="two words", n=0)
    get_logger("app").error("preload refused", faults=["a fault"])
    first, second = capsys.readouterr().err.splitlines()
    assert first[8:] == ' preloaded name=spam@1 digest=sha256:aaaaaaaaaaaa folder="two words" n=0'
    assert second[8:] == " [error] preload refused faults=['a fault']"


def test_a_person_reads_first_what_was_asked_and_what_came_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info", "api", "console")
    fields = {"request_id": "req_1", "tenant": "acme", "method": "POST", "route": "/v1/classify", "digest": None}
    get_logger("api").info("request", **fields, status=200, outcome="ok", prompt_tokens=3, generation_tokens=0)
    get_logger("api").info("request", **fields, status=404, outcome="model_not_found", prompt_tokens=0, seconds=0.5)
    good, bad = capsys.readouterr().err.splitlines()
    assert good[8:] == " POST /v1/classify 200 tenant=acme prompt_tokens=3 request_id=req_1"
    assert bad[8:] == " POST /v1/classify 404 tenant=acme outcome=model_not_found seconds=0.5 request_id=req_1"


@pytest.mark.parametrize("colors", [True, False])
def test_nothing_that_others_wrote_steers_the_terminal(colors: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = Terminal()
    monkeypatch.setattr(sys, "stderr", stderr)
    if not colors:
        monkeypatch.setenv("NO_COLOR", "1")
    configure_logging("info", "api", "auto")
    evil = "\x1b]0;gone\x07\r\x9b2J\u202e"
    get_logger("app").warning(evil, name=evil, names=[evil], deep={"label": evil})
    logging.getLogger("library").error("foreign %s", evil)
    try:
        int(evil)
    except ValueError:
        get_logger("app").exception("unexpected")
        logging.getLogger("library").exception(evil)
    text = stderr.getvalue()
    assert text.count(r"\x1b]0;gone\x07\r\x9b2J\u202e") >= 5
    assert not set("\x07\r\x9b\u202e") & set(text)
    assert "\x1b]" not in text
    assert ("\x1b[" in text) == colors


@pytest.mark.parametrize(("log_format", "is_json"), [("auto", False), ("console", False), ("json", True)])
def test_a_terminal_gets_lines_for_people_unless_json_is_asked_for(
    log_format: LogFormat, is_json: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    stderr = Terminal()
    monkeypatch.setattr(sys, "stderr", stderr)
    configure_logging("info", "api", log_format)
    get_logger("app").info("ready")
    assert stderr.getvalue().startswith("{") == is_json


@pytest.mark.parametrize(("level", "heard"), [("info", ["ours", "loud"]), ("debug", ["ours", "quiet", "loud"])])
def test_libraries_are_heard_from_warnings_up(level: str, heard: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(level, "api", "json")
    logging.getLogger("headmix_adapters.base").info("ours")
    logging.getLogger("alembic.runtime.migration").info("quiet")
    logging.getLogger("uvicorn.error").warning("loud")
    assert [json.loads(line)["event"] for line in capsys.readouterr().err.splitlines()] == heard


def test_a_line_that_nobody_can_read_any_more_fails_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w", buffering=1) as broken:
        monkeypatch.setattr(sys, "stderr", broken)
        configure_logging("info", "api", "json")
        get_logger("app").info("to nobody")
        logging.getLogger("library").warning("to nobody")
        monkeypatch.undo()
        LogStream().flush()
        with pytest.raises(BrokenPipeError):
            broken.flush()
        os.dup2(os.open(os.devnull, os.O_WRONLY), broken.fileno())


def test_a_closed_stream_fails_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stderr", closed)
    configure_logging("info", "api", "auto")
    get_logger("app").info("to nobody")
