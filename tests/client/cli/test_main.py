"""The `headmix` program as a process."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from headmix import __version__
from tests.client.cli.conftest import Run
from tests.client.fake_server import FakeServer, Reply
from tests.client.wire import BASE_MODEL, chat_chunk, listing

PROGRAM = [sys.executable, "-c", "from headmix.cli import main; main()"]


def run_program(*args: str, url: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"HEADMIX_BASE_URL": url}
    return subprocess.run([*PROGRAM, *args], capture_output=True, text=True, env=environment, check=False)


def test_it_runs_as_a_program(server: FakeServer) -> None:
    server.script("GET", "/v1/models", Reply.of(listing(BASE_MODEL)))
    done = run_program("models", "--json", url=server.url)
    assert (done.returncode, done.stderr) == (0, "")
    assert '"small"' in done.stdout


def test_an_error_is_one_line_and_exit_code_one(server: FakeServer) -> None:
    server.script("GET", "/v1/models", Reply.error(403, "forbidden", "not with this key"))
    done = run_program("models", url=server.url)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: not with this key (forbidden)\n"


def test_a_bad_url_is_an_error_too() -> None:
    done = run_program("models", url="nonsense")
    assert done.returncode == 1
    assert done.stderr.startswith("error: base URL 'nonsense'")
    assert len(done.stderr.splitlines()) == 1


def test_an_interrupt_ends_quietly_with_130(server: FakeServer) -> None:
    generated = threading.Event()
    stream = Reply.stream(chat_chunk("Hi"), chat_chunk("!"))
    server.script("POST", "/v1/chat/completions", Reply(200, stream.body, stream.headers, hold=generated))
    program = subprocess.Popen(
        [*PROGRAM, "chat", "Hello", "-m", "tone"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"HEADMIX_BASE_URL": server.url, "PYTHONUNBUFFERED": "1"},
        # A test run in a shell's background inherits ignored interrupts and would pass them on.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    with program:
        assert program.stdout is not None
        assert program.stdout.read(2) == "Hi"
        program.send_signal(signal.SIGINT)
        _, complaints = program.communicate(timeout=30)
    generated.set()
    assert (program.returncode, complaints) == (130, "")


def test_the_version_is_told(run: Run) -> None:
    assert run("--version").stdout == f"headmix {__version__}\n"


@pytest.mark.parametrize("variable", ["HEADMIX_BASE_URL", "HEADMIX_API_KEY"])
def test_help_names_the_environment_variables(run: Run, variable: str) -> None:
    assert variable in run("--help").stdout
