import io
import json
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console

from harness.adapters.artifacts import adapter_config, classifier_config, tiny_base_shape
from headmix_adapters.config import ExamplePrompt
from headmix_server.app.startup.banner import MAX_LISTED, Banner
from headmix_server.catalog.version import AdapterVersion

DIGEST = "sha256:" + "ab" * 32
URL = "http://127.0.0.1:8123"


def _adapter(name: str, task: str = "generation") -> AdapterVersion:
    config = adapter_config(tiny_base_shape())
    if task == "classification":
        config = msgspec.structs.replace(config, task="classification", classifier=classifier_config())
    return AdapterVersion(
        tenant="default",
        name=name,
        version=2,
        digest=DIGEST,
        accepted_for="sha256:0",
        size_bytes=10,
        num_parameters=5,
        created=0,
        current=True,
        config=config,
        config_bytes=1,
    )


def _text(**changes: Any) -> str:
    greeting = Banner(
        url=URL,
        base="tiny",
        generates=True,
        chats=True,
        adapters=[_adapter("poet"), _adapter("spam", "classification")],
        examples={},
        num_adapters=2,
        data_dir=Path("/data dir"),
        new_key=None,
    )
    output = io.StringIO()
    replace(greeting, **changes).print(Console(file=output, width=60))
    return output.getvalue()


def _commands(text: str) -> dict[str, list[str]]:
    lines = text.splitlines()
    return {
        line.removeprefix("# "): shlex.split(lines[place + 1])
        for place, line in enumerate(lines)
        if line.startswith("# ")
    }


def _body(command: list[str]) -> dict[str, object]:
    body: dict[str, object] = json.loads(command[command.index("-d") + 1])
    return body


def test_every_task_has_a_command_that_can_be_pasted() -> None:
    commands = _commands(_text())
    assert list(commands) == ["chat with the base", "generate with poet", "classify with spam", "metrics"]
    assert _body(commands["chat with the base"])["model"] == "tiny"
    assert _body(commands["generate with poet"])["model"] == "poet"
    assert commands["classify with spam"][-1] == f"{URL}/v1/classify"
    assert commands["metrics"] == ["curl", "-s", f"{URL}/metrics"]
    assert "Authorization: Bearer $(cat '/data dir/admin.key')" in commands["generate with poet"]


@pytest.mark.parametrize(
    ("task", "example", "chats", "route", "asked"),
    [
        ("classification", ExamplePrompt(prompt="WIN!", expect="spam"), True, "classify", {"input": ["WIN!"]}),
        ("generation", ExamplePrompt(prompt="It's", expect="me"), True, "completions", {"prompt": "It's"}),
        (
            "generation",
            ExamplePrompt(prompt='Define "a\nb".', chat=True),
            True,
            "chat/completions",
            {"messages": [{"role": "user", "content": 'Define "a\nb".'}]},
        ),
        ("generation", ExamplePrompt(prompt="Hi", chat=True), False, "completions", {"prompt": "Hi"}),
    ],
)
def test_an_adapters_command_has_its_first_example_prompt(
    task: str, example: ExamplePrompt, chats: bool, route: str, asked: dict[str, object]
) -> None:
    text = _text(adapters=[_adapter("one", task)], examples={DIGEST: example}, chats=chats)
    ((title, command), *_) = [found for found in _commands(text).items() if "with one" in found[0]]
    assert command[-1] == f"{URL}/v1/{route}"
    assert _body(command).items() >= asked.items()
    assert title.endswith(f": expect {example.expect}" if example.expect else "with one")


def test_an_example_with_tools_is_a_chat_with_them_though_the_base_cannot_chat() -> None:
    tool = {"type": "function", "function": {"name": "get_time"}}
    example = ExamplePrompt(prompt="What time is it?", chat=True, tools=(tool,))
    adapter = _adapter("clock")
    adapter = replace(adapter, config=msgspec.structs.replace(adapter.config, chat_template="{{ messages }}"))
    text = _text(adapters=[adapter], examples={DIGEST: example}, chats=False)
    command = _commands(text)["generate with clock"]
    assert command[-1] == f"{URL}/v1/chat/completions"
    assert _body(command)["tools"] == [tool]


def test_the_expected_answer_is_one_short_line_without_control_characters() -> None:
    example = ExamplePrompt(prompt="p", expect="one\ntwo" + "o" * 500)
    text = _text(adapters=[_adapter("one")], examples={DIGEST: example})
    assert rf"# generate with one: expect one\ntwo{'o' * 92}...{chr(10)}curl" in text


def test_the_command_line_is_named_where_it_finds_the_server_by_itself() -> None:
    title = "without curl, from this folder"
    assert title not in _commands(_text())
    assert _commands(_text(program="headmix"))[title] == [
        *("headmix", "--base-url", URL, "chat", "What is the capital of France?")
    ]
    usual = "http://127.0.0.1:8000"
    assert _commands(_text(program="headmix", url=usual, chats=False))[title] == ["headmix", "models"]


def test_a_base_without_a_template_completes_and_an_encoder_does_neither() -> None:
    assert "complete with the base" in _commands(_text(chats=False))
    assert list(_commands(_text(chats=False, generates=False, adapters=[]))) == ["metrics"]


def test_the_key_is_shown_only_where_this_start_made_it() -> None:
    assert "hm_secret" in _text(new_key="hm_secret")
    assert "admin key" not in _text()


def test_without_keys_the_commands_send_no_key() -> None:
    assert "Authorization" not in _text(data_dir=None)


@pytest.mark.parametrize("count", [0, MAX_LISTED, MAX_LISTED + 5])
def test_a_large_catalog_is_shown_by_its_size(count: int) -> None:
    text = _text(adapters=[_adapter(f"a{number}") for number in range(count)], num_adapters=count)
    assert f"adapters: {count}" in text
    assert text.count("# generate with") == min(count, MAX_LISTED)
