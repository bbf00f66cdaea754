"""Text from the server, an adapter's file or a model cannot control the terminal that shows it."""

import io
import json
import sys
from pathlib import Path

import pytest

from headmix.cli.output import pass_on, print_fields
from headmix.cli.printable import printable as of_the_client
from headmix.cli.printable import printable_json
from headmix_adapters.printable import printable as of_the_adapters
from tests.client.cli.conftest import Run
from tests.client.fake_server import FakeServer, Reply
from tests.client.wire import ADAPTER, ADAPTER_MODEL, CLASSIFICATION, KEY, chat_chunk, listing

EVIL = "\x1b]0;gone\x07\x9b2J\u202e\r"
SHOWN = r"\x1b]0;gone\x07\x9b2J\u202e\r"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def steers(text: str) -> bool:
    return bool(set("\x1b\x07\x9b\u202e\r") & set(text))


def test_client_and_adapters_mean_the_same_by_printable() -> None:
    for code in [*range(0x3000), *range(0xD7FF, 0xE001), 0x1F468]:
        for lines in (False, True):
            assert of_the_client(chr(code), lines=lines) == of_the_adapters(chr(code), lines=lines)


def test_tables_and_errors_are_harmless(server: FakeServer, run: Run) -> None:
    server.script("GET", "/v1/models", Reply.of(listing(ADAPTER_MODEL | {"id": EVIL})))
    server.script("GET", "/v1/adapters?limit=1000", Reply.of(listing(ADAPTER | {"method": EVIL})))
    server.script("GET", "/v1/adapters/tone", Reply.of(ADAPTER | {"labels": [EVIL], "training": {"metrics": EVIL}}))
    server.script("GET", "/v1/tenants/acme/keys", Reply.of(listing(KEY | {"name": EVIL})))
    answer = CLASSIFICATION | {"data": [{"index": 0, "label": EVIL, "probs": [1.0], "num_classes": 1}]}
    server.script("POST", "/v1/classify", Reply.of(answer))
    server.script("POST", "/v1/embeddings", Reply.error(400, "task_mismatch", EVIL))
    for command in (
        ("models",),
        ("adapters", "list"),
        ("adapters", "show", "tone"),
        ("keys", "list", "acme"),
        ("classify", EVIL, "-m", "mood"),
        ("embed", "x", "-m", "mood"),
    ):
        done = run(*command)
        assert not steers(done.output), command
        assert SHOWN in done.output.replace("\n", ""), command


def test_json_says_the_same_in_jsons_own_escapes(server: FakeServer, run: Run) -> None:
    server.script("GET", "/v1/adapters/tone", Reply.of(ADAPTER | {"labels": [EVIL]}))
    text = run("adapters", "show", "tone", "--json").stdout
    assert not steers(text)
    assert json.loads(text)["labels"] == [EVIL]
    assert json.loads(printable_json(json.dumps(EVIL, ensure_ascii=False))) == EVIL


def test_a_models_own_text_is_exact_in_a_pipe_and_harmless_on_a_terminal(
    server: FakeServer, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.script("POST", "/v1/chat/completions", Reply.stream(chat_chunk(f"a\n\t{EVIL}")))
    assert run("chat", "Hello", "-m", "tone").stdout_bytes == f"a\n\t{EVIL}\n".encode()
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    pass_on(f"a\n\t{EVIL}")
    assert terminal.getvalue() == f"a\n\t{SHOWN}"


def test_a_field_of_several_lines_keeps_them(capsys: pytest.CaptureFixture[str]) -> None:
    print_fields([("example", "one\n-> two\x1b[2J"), ("nothing", None)])
    assert [line.strip() for line in capsys.readouterr().out.splitlines()] == ["example  one", r"-> two\x1b[2J"]


def test_a_file_with_an_evil_name_is_shown_with_its_escapes(server: FakeServer, run: Run, tmp_path: Path) -> None:
    path = tmp_path / "evil\x1b[2J.safetensors"
    path.write_bytes(b"x")
    server.script("POST", "/v1/adapters", Reply.error(422, "invalid_adapter", f"{path.name} is broken"))
    assert not steers(run("adapters", "push", "tone", str(path)).output)
