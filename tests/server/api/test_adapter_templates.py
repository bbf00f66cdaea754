"""An adapter's own chat template: for its requests only, checked at upload, and bounded when it is rendered."""

from pathlib import Path
from typing import Any

import pytest

from harness.adapters.artifacts import random_artifact
from harness.bases.base_folder import write_base_folder
from harness.bases.tool_templates import HERMES
from harness.server.api_rig import BASE, OTHER_TENANT, ApiRig, api_rig
from headmix_server.core.messages import Generate
from headmix_server.text.workers.apart import TooMuchWorkError

OWN = "{{ bos_token or '' }}{% for m in messages %}({{ m.role }}) {{ m.content }} {% endfor %}"
USER = {"role": "user", "content": "Hello"}
TOOL = {"type": "function", "function": {"name": "get_time", "parameters": {"type": "object", "properties": {}}}}


async def chat(rig: ApiRig, model: str, **more: Any) -> Any:
    return await rig.client.post("/v1/chat/completions", json={"model": model, "messages": [USER], **more})


def last_prompt(rig: ApiRig) -> str:
    return rig.state.tokenizer.decode(rig.engine.of(Generate)[-1].prompt, skip_special_tokens=False)


async def upload(rig: ApiRig, folder: Path, template: str, name: str = "own") -> Any:
    path = folder / "a.safetensors"
    random_artifact(path, rig.state.base.shape, chat_template=template)
    return await rig.client.post("/v1/adapters", data={"name": name}, files={"file": path.read_bytes()})


async def test_only_the_adapters_own_chats_are_rendered_with_it(rig: ApiRig, tmp_path: Path) -> None:
    assert (await upload(rig, tmp_path, OWN)).status_code == 201
    rig.publish("plain")
    prompts = {}
    for model in ("own", "plain", BASE):
        response = await chat(rig, model)
        assert response.status_code == 200, response.text
        prompts[model] = last_prompt(rig)
    assert prompts["own"].endswith("(user) Hello ")
    assert prompts["plain"] == prompts[BASE]
    assert prompts[BASE].endswith("<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n")


async def test_tokenize_shows_the_prompt_that_its_chats_get(rig: ApiRig) -> None:
    rig.publish("own", chat_template=OWN)
    await chat(rig, "own")
    answer = await rig.client.post("/tokenize", json={"model": "own", "messages": [USER]})
    assert answer.json()["tokens"] == rig.engine.of(Generate)[-1].prompt


async def test_special_tokens_in_messages_are_text_there_too(rig: ApiRig) -> None:
    rig.publish("own", chat_template=OWN)
    sent = {"messages": [{"role": "user", "content": "a<|im_end|>"}], "split_special_tokens": True}
    assert (await chat(rig, "own", **sent)).status_code == 200
    end = rig.state.tokenizer.token_id("<|im_end|>")
    assert end not in rig.engine.of(Generate)[-1].prompt
    assert "a<|im_end|>" in last_prompt(rig)


async def test_an_adapter_chats_on_a_base_without_a_template(tmp_path: Path) -> None:
    folder = write_base_folder(tmp_path / "base", chat_template=None)
    async with api_rig(folder, tmp_path / "data") as rig:
        rig.publish("own", chat_template=OWN)
        assert (await chat(rig, "own")).status_code == 200
        assert (await chat(rig, BASE)).json()["error"]["message"].startswith("The base of this server has no chat")


async def test_it_is_shown_with_the_adapter_and_in_no_list(rig: ApiRig) -> None:
    rig.publish("own", chat_template=OWN)
    rig.publish("plain")
    assert (await rig.client.get("/v1/adapters/own")).json()["chat_template"] == OWN
    assert (await rig.client.get("/v1/adapters/plain")).json()["chat_template"] is None
    for path in ("/v1/adapters", "/v1/adapters/own/versions", "/v1/models", "/v1/models/own"):
        assert "m.content" not in (await rig.client.get(path)).text


async def test_tenants_it_is_shared_with_get_its_template(rig: ApiRig) -> None:
    version = rig.publish("own", chat_template=OWN, tenant=OTHER_TENANT)
    assert (await rig.other.put("/v1/adapters/own/sharing", json={"everyone": True})).status_code == 200
    assert (await chat(rig, f"{version.tenant}/own")).status_code == 200
    assert last_prompt(rig).endswith("(user) Hello ")


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{% for %}", "chat_template: the chat template is not valid"),
        ("{{ x | nope }}", "No filter named 'nope'"),
        ("x" * 65_537, "chat_template: 65537 bytes, more than the limit of 65536"),
    ],
)
async def test_one_that_cannot_be_compiled_is_refused_at_upload(
    rig: ApiRig, tmp_path: Path, template: str, reason: str
) -> None:
    response = await upload(rig, tmp_path, template)
    assert (response.status_code, response.json()["error"]["code"]) == (422, "invalid_adapter")
    assert reason in response.json()["error"]["message"]
    assert (await rig.client.get("/v1/adapters")).json()["data"] == []


async def test_one_that_takes_too_long_to_compile_is_refused_at_upload(
    rig: ApiRig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rig.state.text_workers, "run", too_much)
    response = await upload(rig, tmp_path, OWN)
    assert response.status_code == 422
    assert "compiling it takes more than 5 seconds" in response.json()["error"]["message"]


async def test_its_refusal_is_the_clients_error_and_names_the_adapter(rig: ApiRig) -> None:
    rig.publish("own", chat_template="{{ raise_exception('only one turn') }}")
    error = (await chat(rig, "own")).json()["error"]
    assert error["message"] == "The adapter's chat template refuses these messages: only one turn"
    assert (error["param"], error["code"]) == ("messages", "invalid_request_error")
    response = await rig.client.post("/v1/responses", json={"model": "own", "input": "Hello"})
    assert (response.json()["error"]["param"], response.json()["error"]["message"]) == ("input", error["message"])


async def test_one_that_takes_all_memory_costs_its_own_request_only(rig: ApiRig) -> None:
    rig.publish("large", chat_template="{{ 'a' * 10 ** 12 }}")
    rig.publish("own", chat_template=OWN)
    response = await chat(rig, "large")
    assert response.status_code == 413
    assert "takes more memory than a request may use" in response.json()["error"]["message"]
    assert (await chat(rig, "own")).status_code == 200


@pytest.mark.parametrize(("tools", "param"), [([], "messages"), ([TOOL], "tools")])
async def test_one_that_takes_too_long_is_the_clients_error(
    rig: ApiRig, monkeypatch: pytest.MonkeyPatch, tools: list[dict[str, Any]], param: str
) -> None:
    rig.publish("own", chat_template=OWN)
    monkeypatch.setattr(rig.state.text_workers, "run", too_much)
    error = (await chat(rig, "own", tools=tools)).json()["error"]
    assert error["message"] == "The adapter's chat template takes more than 2 seconds of processor time."
    assert (error["param"], error["code"]) == (param, "invalid_request_error")


async def test_tools_are_taken_where_the_models_own_template_shows_them(rig: ApiRig) -> None:
    rig.publish("hermes", chat_template=HERMES)
    rig.publish("own", chat_template=OWN)
    answer = await chat(rig, "hermes", tools=[TOOL])
    assert answer.status_code == 200, answer.text
    assert "get_time" in last_prompt(rig)
    refused = (await chat(rig, "own", tools=[TOOL])).json()["error"]
    assert "The chat template of the adapter 'own' has no tools" in refused["message"]


async def test_variables_are_those_of_the_models_own_template(rig: ApiRig) -> None:
    rig.publish("moody", chat_template="{{ mood }} {{ messages[0].content }}")
    rig.publish("own", chat_template=OWN)
    assert (await chat(rig, "moody", chat_template_kwargs={"mood": "glad"})).status_code == 200
    assert last_prompt(rig) == "glad Hello"
    error = (await chat(rig, "own", chat_template_kwargs={"mood": "glad"})).json()["error"]
    assert error["param"] == "chat_template_kwargs.mood"


async def too_much(*_: object) -> None:
    raise TooMuchWorkError
