"""A first start that converts its base: on a terminal, for a program, and stopped halfway."""

import json
from pathlib import Path

import pytest

from harness.bases.gguf_files import write_tiny_gguf
from harness.server.running_server import running_server, serve_command, server_environment
from headmix_adapters.base.gguf.conversion_progress import progress_of
from headmix_server.app.errors import StartStopped
from headmix_server.app.startup.conversion_watch import watch_conversion
from headmix_server.core.observability.logging import configure_logging
from tests.support.clocks.fake_clock import FakeClock
from tests.support.terminal import in_terminal

pytestmark = pytest.mark.slow

STARTING = progress_of("tiny.gguf", "starting")


def test_a_program_reads_a_line_every_ten_seconds(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = FakeClock()
    configure_logging("info", "api", "json")
    with watch_conversion("json", lambda: False, clock=clock) as watch:
        for seconds in (1.0, 5.0, 4.5, 1.0, 9.5):
            clock.now += seconds
            watch(progress_of("tiny.gguf", "writing the folder"))
    events = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(event["event"], event["percent"], event["seconds"]) for event in events] == [
        ("converting", 90, 10),
        ("converting", 90, 21),
    ]


def test_a_stop_ends_it() -> None:
    with watch_conversion("json", lambda: True) as watch, pytest.raises(StartStopped):
        watch(STARTING)


def test_a_person_sees_a_bar_and_ctrl_c_ends_the_conversion(tmp_path: Path) -> None:
    write_tiny_gguf(tmp_path / "tiny.gguf")
    command = serve_command(base=tmp_path / "tiny.gguf", data_dir=tmp_path / "data", runner="fake", port=0)
    environment = server_environment() | {"HEADMIX_CACHE": str(tmp_path / "cache"), "TERM": "xterm"}
    with in_terminal(command, environment) as terminal:
        terminal.wait_for(r"Converting tiny\.gguf, once: .*%")
        terminal.type("\x03")
        assert terminal.process.wait(60) == 0
        terminal.wait_for("headmix stopped")
        assert "Traceback" not in terminal.text
    assert not list(tmp_path.glob("cache/bases/*/config.json"))


def test_the_converted_base_is_served_and_the_log_says_how_long_it_took(tmp_path: Path) -> None:
    write_tiny_gguf(tmp_path / "tiny.gguf")
    environment = {"HEADMIX_CACHE": str(tmp_path / "cache")}
    with running_server(tmp_path, base=tmp_path / "tiny.gguf", env=environment) as server:
        told = [str(json.loads(line)["event"]) for line in server.stderr if line.startswith("{")]
        assert any(event.startswith("converting tiny.gguf to safetensors, once") for event in told)
        assert any(event.startswith("converted tiny.gguf in ") for event in told)
        assert server.stop() == 0
