"""/tokenize and /detokenize: a model's own vocabulary, without its engine computing anything."""

from typing import Any

import pytest

from harness.bases.base_folder import IM_END, IM_START
from harness.server.api_rig import BASE, ApiRig
from headmix_server.core.messages import Classify, Embed, Generate

TOKENIZE, DETOKENIZE = "/tokenize", "/detokenize"
TEXT = "The quick 日本 fox"


async def ask(rig: ApiRig, path: str, **body: Any) -> dict[str, Any]:
    response = await rig.client.post(path, json={"model": BASE, **body})
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


async def refusal(rig: ApiRig, path: str, **body: Any) -> tuple[int, str, str | None]:
    response = await rig.client.post(path, json={"model": BASE, **body})
    error = response.json()["error"]
    return response.status_code, error["code"], error["param"]


async def test_a_text_becomes_its_tokens_and_they_become_the_text(rig: ApiRig) -> None:
    answer = await ask(rig, TOKENIZE, prompt=TEXT)
    ids = rig.state.tokenizer.encode(TEXT)
    assert answer == {"count": len(ids), "max_model_len": 256, "tokens": ids, "token_strs": None}
    assert await ask(rig, DETOKENIZE, tokens=ids) == {"prompt": TEXT}


async def test_tokens_are_spelled_as_in_the_vocabulary_where_that_is_asked_for(rig: ApiRig) -> None:
    answer = await ask(rig, TOKENIZE, prompt=TEXT, return_token_strings=True)
    assert answer["token_strs"] == [rig.state.tokenizer.piece(token) for token in answer["tokens"]]


async def test_no_text_has_no_tokens(rig: ApiRig) -> None:
    assert (await ask(rig, TOKENIZE, prompt=""))["count"] == 0
    assert await ask(rig, DETOKENIZE, tokens=[]) == {"prompt": ""}


async def test_messages_become_the_prompt_that_a_chat_would_have(rig: ApiRig) -> None:
    messages = [{"role": "user", "content": "Hello"}]
    answer = await ask(rig, TOKENIZE, messages=messages)
    await rig.client.post("/v1/chat/completions", json={"model": BASE, "messages": messages})
    assert answer["tokens"] == rig.engine.of(Generate)[0].prompt
    assert (await ask(rig, DETOKENIZE, tokens=answer["tokens"]))["prompt"].endswith(f"{IM_START}assistant\n")


@pytest.mark.parametrize(
    "params",
    [
        {"add_generation_prompt": False},
        {"continue_final_message": True, "messages": [{"role": "assistant", "content": "Once upon"}]},
        {"chat_template_kwargs": {"enable_thinking": False}},
        {"split_special_tokens": True, "messages": [{"role": "user", "content": IM_END}]},
    ],
)
async def test_what_a_chat_says_of_its_prompt_is_said_of_its_tokens(rig: ApiRig, params: dict[str, Any]) -> None:
    body = {"model": BASE, "messages": [{"role": "user", "content": "Hello"}], **params}
    assert (await rig.client.post("/v1/chat/completions", json=body)).status_code == 200
    assert (await ask(rig, TOKENIZE, **body))["tokens"] == rig.engine.of(Generate)[-1].prompt


async def test_tools_are_in_the_prompt_as_in_a_chat_or_refused_with_the_chats_reason(rig: ApiRig) -> None:
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
    body = {"model": BASE, "messages": [{"role": "user", "content": "Hello"}], "tools": tools}
    chat = (await rig.client.post("/v1/chat/completions", json=body)).json()["error"]
    assert await refusal(rig, TOKENIZE, **body) == (400, chat["code"], "tools")


async def test_the_words_of_an_adapter_are_tokens_of_its_own_and_of_no_other(rig: ApiRig) -> None:
    rig.publish("odd", added_tokens=("<subject>", "naïve"))
    first = rig.state.base.shape.vocab_size
    answer = await ask(rig, TOKENIZE, model="odd", prompt="A <subject> naïve fox", return_token_strings=True)
    assert [token for token in answer["tokens"] if token >= first] == [first, first + 1]
    assert {"<subject>", "naïve"} <= set(answer["token_strs"])
    assert await ask(rig, DETOKENIZE, model="odd", tokens=answer["tokens"]) == {"prompt": "A <subject> naïve fox"}
    assert await refusal(rig, DETOKENIZE, tokens=[first]) == (400, "invalid_request_error", "tokens")
    assert max((await ask(rig, TOKENIZE, prompt="A <subject>"))["tokens"]) < first


async def test_special_tokens_in_a_text_are_split_as_asked(rig: ApiRig) -> None:
    whole = (await ask(rig, TOKENIZE, prompt=IM_END))["tokens"]
    split = (await ask(rig, TOKENIZE, prompt=IM_END, split_special_tokens=True))["tokens"]
    assert (len(whole), len(split) > 1) == (1, True)
    assert (await ask(rig, DETOKENIZE, tokens=split))["prompt"] == IM_END


async def test_as_many_tokens_as_the_context_has_are_taken_both_ways(rig: ApiRig) -> None:
    text = "fox" * 60
    ids = (await ask(rig, TOKENIZE, prompt=text))["tokens"]
    assert len(ids) <= 256
    body = {"prompt": text * 20}
    assert await refusal(rig, TOKENIZE, **body) == (400, "context_length_exceeded", "prompt")
    assert await refusal(rig, DETOKENIZE, tokens=[5] * 257) == (400, "context_length_exceeded", "tokens")
    assert await refusal(rig, DETOKENIZE, tokens=[5] * 20_000) == (400, "context_length_exceeded", "tokens")


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        (TOKENIZE, {}, "prompt"),
        (TOKENIZE, {"prompt": "a", "messages": [{"role": "user", "content": "b"}]}, "prompt"),
        (TOKENIZE, {"prompt": ["a"]}, "prompt"),
        (TOKENIZE, {"messages": []}, "messages"),
        (TOKENIZE, {"messages": [{"role": "wizard", "content": "b"}]}, "messages.0.role"),
        (TOKENIZE, {"messages": [{"role": "user", "content": "b"}] * 2049}, "messages"),
        (TOKENIZE, {"messages": [{"role": "user", "content": "b"}], "add_special_tokens": True}, "add_special_tokens"),
        (TOKENIZE, {"prompt": "a", "chat_template": "x"}, "chat_template"),
        (TOKENIZE, {"prompt": "a", "add_generation_prompt": False}, "add_generation_prompt"),
        (TOKENIZE, {"prompt": "a", "tools": []}, "tools"),
        (DETOKENIZE, {}, "tokens"),
        (DETOKENIZE, {"tokens": [-1]}, "tokens.0"),
        (DETOKENIZE, {"tokens": ["a"]}, "tokens.0"),
        (DETOKENIZE, {"tokens": [10**9]}, "tokens"),
    ],
)
async def test_bad_input_is_named(rig: ApiRig, path: str, body: dict[str, Any], param: str) -> None:
    status, _, named = await refusal(rig, path, **body)
    assert (status, named) == (400, param)


async def test_nothing_is_computed_and_requests_are_counted(rig: ApiRig) -> None:
    await ask(rig, TOKENIZE, prompt=TEXT)
    assert not [*rig.engine.of(Generate), *rig.engine.of(Classify), *rig.engine.of(Embed)]
    assert 'route="/tokenize"' in (await rig.client.get("/metrics")).text
    rig.state.limits.change("tenant", {"requests_per_minute": 1}, actor="test")
    assert (await rig.client.post(TOKENIZE, json={"model": BASE, "prompt": "a"})).status_code == 200
    assert await refusal(rig, TOKENIZE, prompt="a") == (429, "rate_limit_exceeded", None)
