"""`headmix complete` and `headmix chat`."""

import json
from pathlib import Path

import pytest

from tests.client.cli.conftest import Run
from tests.client.fake_server import FakeServer, Reply
from tests.client.wire import CLASSIFICATION, COMPLETION, EMBEDDINGS, chat_chunk, completion_chunk

CHATS = "/v1/chat/completions"


def test_a_completion_is_printed_with_its_options_sent(server: FakeServer, run: Run) -> None:
    server.script("POST", "/v1/completions", Reply.stream(completion_chunk("a "), completion_chunk("b")))
    done = run("complete", "Once", "-m", "tone@2", "--max-tokens", "5", "--temperature", "0", "--stop", "x")
    assert (done.exit_code, done.stdout) == (0, "a b\n")
    assert server.last.json == {
        "model": "tone@2",
        "prompt": "Once",
        "max_tokens": 5,
        "temperature": 0.0,
        "stop": ["x"],
        "stream": True,
    }
    assert server.last.headers["authorization"] == "Bearer hm_key"


def test_a_prompt_comes_from_standard_input(server: FakeServer, run: Run) -> None:
    server.script("POST", "/v1/completions", Reply.stream(completion_chunk("a")))
    assert run("complete", "-", "-m", "tone", stdin="from a pipe").exit_code == 0
    assert server.last.json == {"model": "tone", "prompt": "from a pipe", "stream": True}


def test_a_chat_is_printed_as_it_arrives(server: FakeServer, run: Run) -> None:
    server.script("POST", CHATS, Reply.stream(chat_chunk("Hi"), chat_chunk("."), chat_chunk(None, "stop")))
    done = run("chat", "Hello", "-m", "tone", "--system", "Be brief.")
    assert (done.exit_code, done.stdout) == (0, "Hi.\n")
    assert server.last.json == {
        "model": "tone",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}],
        "stream": True,
    }


def test_a_conversation_remembers_what_was_said(server: FakeServer, run: Run) -> None:
    server.script(
        "POST",
        CHATS,
        Reply.stream(chat_chunk("One.")),
        Reply.error(400, "task_mismatch"),
        Reply.stream(chat_chunk("2")),
    )
    done = run("chat", "-i", "-m", "tone", stdin="first\n\nrefused\nsecond\n")
    assert done.exit_code == 0
    assert "One." in done.stdout
    assert "error: no (task_mismatch)" in done.stderr
    assert server.last.json == {
        "model": "tone",
        "messages": [
            {"role": "user", "content": "first"},
            {"role": "assistant", "content": "One."},
            {"role": "user", "content": "second"},
        ],
        "stream": True,
    }


def test_an_error_in_the_stream_fails_the_command_after_what_came(server: FakeServer, run: Run) -> None:
    failure = {"error": {"message": "engine died", "type": "server_error", "param": None, "code": None}}
    server.script("POST", CHATS, Reply.stream(chat_chunk("He"), failure, done=False))
    done = run("chat", "Hello", "-m", "tone")
    assert (done.exit_code, done.stdout) == (1, "He")
    assert "error: engine died" in done.stderr


@pytest.mark.parametrize("args", [("chat", "-m", "tone"), ("chat",), ("complete", "-m", "tone"), ("nonsense",)])
def test_wrong_usage_exits_with_two(run: Run, args: tuple[str, ...]) -> None:
    assert run(*args).exit_code == 2


def test_the_model_may_come_from_the_environment(server: FakeServer, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADMIX_MODEL", "tone")
    server.script("POST", CHATS, Reply.stream(chat_chunk("Hi")))
    assert run("chat", "Hello").exit_code == 0


@pytest.mark.parametrize("command", ["complete", "chat", "classify", "embed"])
def test_every_command_that_sends_text_can_split_special_tokens(server: FakeServer, run: Run, command: str) -> None:
    for _ in range(2):
        server.script("POST", "/v1/completions", Reply.stream(completion_chunk("a")))
        server.script("POST", CHATS, Reply.stream(chat_chunk("a")))
    server.script("POST", "/v1/classify", Reply.of(CLASSIFICATION))
    server.script("POST", "/v1/embeddings", Reply.of(EMBEDDINGS))
    for options, sent in (([], None), (["--split-special-tokens"], True)):
        assert run(command, "text", "-m", "tone", *options).exit_code == 0
        assert isinstance(server.last.json, dict)
        assert server.last.json.get("split_special_tokens") is sent


@pytest.mark.parametrize("command", ["complete", "chat", "classify", "embed"])
def test_every_command_that_sends_text_can_have_it_cut(server: FakeServer, run: Run, command: str) -> None:
    server.script("POST", "/v1/completions", Reply.stream(completion_chunk("a")))
    server.script("POST", CHATS, Reply.stream(chat_chunk("a")))
    server.script("POST", "/v1/classify", Reply.of(CLASSIFICATION))
    server.script("POST", "/v1/embeddings", Reply.of(EMBEDDINGS))
    assert run(command, "text", "-m", "tone", "--truncate", "-1").exit_code == 0
    assert isinstance(server.last.json, dict)
    assert server.last.json["truncate_prompt_tokens"] == -1


def test_the_best_of_several_is_printed_whole_and_a_suffix_is_sent(server: FakeServer, run: Run) -> None:
    server.script("POST", "/v1/completions", Reply.of(COMPLETION))
    done = run("complete", "Once", "-m", "tone", "--best-of", "3")
    assert (done.exit_code, done.stdout) == (0, " world\n")
    assert server.last.json == {"model": "tone", "prompt": "Once", "best_of": 3}
    server.script("POST", "/v1/completions", Reply.stream(completion_chunk("a")))
    assert run("complete", "Once", "-m", "tone", "--suffix", " end", "--show-special-tokens").exit_code == 0
    sent = {"model": "tone", "prompt": "Once", "suffix": " end", "skip_special_tokens": False, "stream": True}
    assert server.last.json == sent


def test_variables_of_the_template_are_json_or_texts(server: FakeServer, run: Run) -> None:
    server.script("POST", CHATS, Reply.stream(chat_chunk("a")))
    options = ["enable_thinking=false", 'note={"a": [1]}', "mood=calm=so", "empty="]
    given = [word for option in options for word in ("--template-variable", option)]
    assert run("chat", "Hello", "-m", "tone", *given).exit_code == 0
    assert isinstance(server.last.json, dict)
    expected = {"enable_thinking": False, "note": {"a": [1]}, "mood": "calm=so", "empty": ""}
    assert server.last.json["chat_template_kwargs"] == expected
    refused = run("chat", "Hello", "-m", "tone", "--template-variable", "thinking")
    assert (refused.exit_code, "NAME=VALUE" in refused.stderr) == (2, True)


@pytest.mark.parametrize(
    ("options", "form"),
    [
        (["--regex", "a+"], {"regex": "a+"}),
        (["--choice", "yes", "--choice", "no"], {"choice": ["yes", "no"]}),
        (["--json-schema", "SCHEMA"], {"json": {"type": "object"}}),
    ],
)
def test_a_form_is_sent_as_structured_outputs(
    server: FakeServer, run: Run, tmp_path: Path, options: list[str], form: dict[str, object]
) -> None:
    (tmp_path / "schema.json").write_text('{"type": "object"}')
    options = [option.replace("SCHEMA", str(tmp_path / "schema.json")) for option in options]
    server.script("POST", CHATS, Reply.stream(chat_chunk("{}")))
    assert run("chat", "Hello", "-m", "tone", *options).exit_code == 0
    assert isinstance(server.last.json, dict)
    assert server.last.json["structured_outputs"] == form
    server.script("POST", "/v1/completions", Reply.stream(completion_chunk("{}")))
    assert run("complete", "Hello", "-m", "tone", *options).exit_code == 0
    assert isinstance(server.last.json, dict)
    assert server.last.json["structured_outputs"] == form


def test_two_forms_and_a_schema_that_is_not_json_are_refused(run: Run, tmp_path: Path) -> None:
    (tmp_path / "schema.json").write_text("{")
    two = run("chat", "Hello", "-m", "tone", "--regex", "a", "--choice", "b")
    assert (two.exit_code, "take one of" in two.stderr) == (2, True)
    broken = run("chat", "Hello", "-m", "tone", "--json-schema", str(tmp_path / "schema.json"))
    assert (broken.exit_code, "is not JSON" in broken.stderr) == (2, True)


TOOL = {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}


def call_chunk(**call: object) -> dict[str, object]:
    chunk = chat_chunk(None)
    return chunk | {"choices": [{"index": 0, "delta": {"tool_calls": [call]}, "finish_reason": None}]}


@pytest.mark.parametrize("content", [TOOL, {"type": "function", "function": TOOL}, [TOOL]])
def test_tools_are_offered_and_calls_printed(server: FakeServer, run: Run, tmp_path: Path, content: object) -> None:
    (tmp_path / "tool.json").write_text(json.dumps(content), encoding="utf-8")
    first = call_chunk(index=0, id="c1", type="function", function={"name": "weather", "arguments": ""})
    rest = call_chunk(index=0, function={"arguments": '{"city": "Rome"}'})
    server.script("POST", CHATS, Reply.stream(first, rest), Reply.stream(chat_chunk("Well: "), first, rest))
    command = ("chat", "Warm?", "-m", "tone", "--tool", str(tmp_path / "tool.json"))
    assert run(*command).stdout == 'weather {"city": "Rome"}\n'
    assert run(*command).stdout == 'Well: \nweather {"city": "Rome"}\n'
    sent = server.last.json
    assert isinstance(sent, dict)
    assert sent["tools"] == [{"type": "function", "function": TOOL}]


@pytest.mark.parametrize("content", ["{", "[]", "5", "[5]"])
def test_a_file_without_tools_is_refused_before_anything_is_sent(
    server: FakeServer, run: Run, tmp_path: Path, content: str
) -> None:
    (tmp_path / "tool.json").write_text(content, encoding="utf-8")
    done = run("chat", "Warm?", "-m", "tone", "--tool", str(tmp_path / "tool.json"))
    assert done.exit_code == 2
    assert "--tool" in done.stderr
    assert run("chat", "-i", "-m", "tone", "--tool", str(tmp_path / "tool.json")).exit_code == 2


SUM = [{"name": "tone", "scale": 0.7}, {"name": "acme/brief@2"}]
OPTIONS = ("--adapter", "tone:0.7", "--adapter", "acme/brief@2")


@pytest.mark.parametrize(
    ("command", "path", "reply"),
    [
        (("chat", "Hi"), CHATS, Reply.stream(chat_chunk("Hi"))),
        (("complete", "Hi"), "/v1/completions", Reply.stream(completion_chunk("Hi"))),
        (("classify", "Hi"), "/v1/classify", Reply.of(CLASSIFICATION)),
        (("embed", "Hi"), "/v1/embeddings", Reply.of(EMBEDDINGS)),
    ],
)
def test_several_adapters_are_asked_together_even_if_the_environment_names_a_model(
    server: FakeServer,
    run: Run,
    command: tuple[str, ...],
    path: str,
    reply: Reply,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HEADMIX_MODEL", "other")
    server.script("POST", path, reply)
    done = run(*command, *OPTIONS)
    assert done.exit_code == 0, done.output
    body = server.last.json
    assert isinstance(body, dict)
    assert (body["model"], body["adapters"]) == ("tone", SUM)


@pytest.mark.parametrize("options", [("--adapter", "tone:much"), (*OPTIONS, "--model", "tone")])
def test_a_scale_that_is_no_number_and_a_model_beside_adapters_are_usage_errors(
    server: FakeServer, run: Run, options: tuple[str, ...]
) -> None:
    done = run("complete", "Hi", *options)
    assert done.exit_code == 2
    assert not server.received
