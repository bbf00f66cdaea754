"""Bodies as real clients send them: fields that have no effect are accepted, unsupported ones that would are not."""

import inspect
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import pytest_asyncio
from openai.types import completion_create_params, embedding_create_params
from openai.types.chat import completion_create_params as chat_create_params

from harness.server.api_rig import BASE, ApiRig, api_rig
from headmix_server.core.messages import Generate

COMPLETIONS, CHAT, CLASSIFY, EMBEDDINGS = "/v1/completions", "/v1/chat/completions", "/v1/classify", "/v1/embeddings"
MESSAGES = [{"role": "user", "content": "Hi"}]
BODIES: dict[str, dict[str, Any]] = {
    COMPLETIONS: {"model": BASE, "prompt": "x"},
    CHAT: {"model": BASE, "messages": MESSAGES},
    CLASSIFY: {"model": "classifier", "input": "x"},
    EMBEDDINGS: {"model": BASE, "input": "x"},
}

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(base_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ApiRig]:
    async with api_rig(base_folder, tmp_path_factory.mktemp("bodies")) as running:
        running.publish("classifier", labels=("a", "b"))
        yield running


@pytest.fixture
def rig(server: ApiRig) -> ApiRig:
    server.engine.received.clear()
    server.says("Hello there")
    server.engine.probs, server.engine.vector = [0.5, 0.5], [0.5]
    return server


async def ask(rig: ApiRig, path: str, **params: Any) -> dict[str, Any]:
    response = await rig.client.post(path, json={**BODIES[path], **params})
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json() if not params.get("stream") else {}
    return answer


async def refusal(rig: ApiRig, path: str, **params: Any) -> tuple[str, str]:
    response = await rig.client.post(path, json={**BODIES[path], **params})
    error = response.json()["error"]
    assert response.status_code == 400, response.text
    return error["code"], error["param"]


async def prompt_of(rig: ApiRig, messages: list[dict[str, Any]]) -> str:
    await ask(rig, CHAT, messages=messages)
    return rig.state.tokenizer.decode(rig.engine.of(Generate)[-1].prompt, skip_special_tokens=False)


TURNS = [*MESSAGES, {"role": "assistant", "content": "Yo"}, {"role": "user", "content": "Again"}]


@pytest.mark.parametrize(
    "notes",
    [
        pytest.param({"id": 1947, "opts": {"visible": False}}, id="codecompanion"),
        pytest.param({"cache_control": {"type": "ephemeral"}}, id="opencode"),
        pytest.param({"reasoning_content": None, "tool_calls": []}, id="vllm-answer"),
        pytest.param({"reasoning": None}, id="newer-vllm-answer"),
        pytest.param(
            {"refusal": None, "annotations": [], "audio": None, "function_call": None, "tool_calls": None},
            id="openai-answer",
        ),
        pytest.param({"provider_specific_fields": {"refusal": None}, "thinking_blocks": None}, id="litellm-answer"),
        pytest.param({"reasoning_details": [], "reasoning": ""}, id="openrouter-answer"),
        pytest.param({"reasoning_content": "", "id": "m1", "cache_control": None}, id="empty-reasoning"),
        pytest.param({"name": None, "tool_call_id": None, "images": None}, id="nulls"),
    ],
)
async def test_a_message_may_carry_notes_and_empty_fields_that_do_not_change_the_prompt(
    rig: ApiRig, notes: dict[str, Any]
) -> None:
    assert await prompt_of(rig, [{**turn, **notes} for turn in TURNS]) == await prompt_of(rig, TURNS)


async def test_parts_may_carry_cache_marks(rig: ApiRig) -> None:
    part = {"type": "text", "text": "Hi", "cache_control": {"type": "ephemeral"}}
    other = {"type": "text", "text": "", "prompt_cache_breakpoint": {"mode": "explicit"}}
    assert await prompt_of(rig, [{"role": "user", "content": [part, other]}]) == await prompt_of(rig, MESSAGES)


@pytest.mark.parametrize("kind", ["input_text", "output_text"])
async def test_parts_of_the_responses_api_are_texts(rig: ApiRig, kind: str) -> None:
    part = {"type": kind, "text": "Hi", "annotations": [], "logprobs": []}
    assert await prompt_of(rig, [{"role": "user", "content": [part]}]) == await prompt_of(rig, MESSAGES)


async def test_an_assistants_turn_without_content_is_an_empty_text(rig: ApiRig) -> None:
    user, _, again = TURNS
    empty = await prompt_of(rig, [user, {"role": "assistant", "content": ""}, again])
    assert await prompt_of(rig, [user, {"role": "assistant", "content": None}, again]) == empty
    assert await prompt_of(rig, [user, {"role": "assistant", "content": None, "tool_calls": []}, again]) == empty


CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"role": "assistant", "function_call": CALL["function"]}, "messages.1.function_call"),
        ({"role": "function", "name": "f", "content": "5"}, "messages.1.role"),
        ({"role": "user", "content": "Yo", "reasoning_content": "hm"}, "messages.1.reasoning_content"),
        ({"role": "system", "content": "Yo", "reasoning": "hm"}, "messages.1.reasoning"),
        ({"role": "assistant", "content": "Yo", "audio": {"id": "a"}}, "messages.1.audio"),
        ({"role": "user", "content": "Yo", "wisdom": 1}, "messages.1.wisdom"),
        ({"role": "user", "content": [{"type": "image_url", "image_url": {}}]}, "messages.1.content.0.type"),
        ({"role": "user", "content": [{"type": "text", "text": "x", "tone": "low"}]}, "messages.1.content.0.tone"),
    ],
)
async def test_a_message_field_that_would_change_the_prompt_is_named(
    rig: ApiRig, message: dict[str, Any], param: str
) -> None:
    assert await refusal(rig, CHAT, messages=[*MESSAGES, message]) == ("unsupported_parameter", param)


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"role": "user", "content": None}, "messages.0.content"),
        ({"role": "user"}, "messages.0.content"),
        ({"role": "human", "content": "Hi"}, "messages.0.role"),
        ({"role": "user", "content": 5}, "messages.0.content"),
        ({"role": "user", "content": ["Hi"]}, "messages.0.content.0"),
    ],
)
async def test_a_malformed_message_is_a_malformed_request(rig: ApiRig, message: dict[str, Any], param: str) -> None:
    assert await refusal(rig, CHAT, messages=[message]) == ("invalid_request_error", param)


async def test_what_guidellm_sends_is_answered(rig: ApiRig) -> None:
    stream = {"stream": True, "stream_options": {"include_usage": True, "continuous_usage_stats": True}}
    for path, limit in ((COMPLETIONS, "max_tokens"), (CHAT, "max_completion_tokens")):
        await ask(rig, path, **stream, **{limit: 3, "stop": None, "ignore_eos": True})
        assert rig.engine.of(Generate)[-1].sampling.ignore_eos


@pytest.mark.parametrize(
    "params",
    [
        {"n": 1, "stop": "", "logit_bias": {}, "response_format": {"type": "text"}, "prompt_cache_retention": "24h"},
        {"stop": [], "stop_token_ids": [], "prompt_cache_options": {"mode": "implicit"}, "prompt_cache_key": None},
        {"skip_special_tokens": True, "spaces_between_special_tokens": True, "min_tokens": 0, "bad_words": []},
        {"length_penalty": 1.0, "use_beam_search": False, "include_stop_str_in_output": False, "priority": 0},
        {"return_token_ids": False, "return_tokens_as_token_ids": None, "truncate_prompt_tokens": None},
        {"guided_json": None, "temperature": None, "top_p": None, "max_tokens": None, "a_parameter_to_come": None},
    ],
)
async def test_values_that_ask_for_nothing_are_accepted_on_both_generation_routes(
    rig: ApiRig, params: dict[str, Any]
) -> None:
    for path in (COMPLETIONS, CHAT):
        await ask(rig, path, **params)
        await ask(rig, path, stream=True, **params)


@pytest.mark.parametrize(
    ("path", "params"),
    [
        (COMPLETIONS, {"logprobs": False, "best_of": 1, "suffix": "", "add_special_tokens": True}),
        (COMPLETIONS, {"best_of": 2, "n": 2.0, "max_completion_tokens": None}),
        (CHAT, {"best_of": 1, "skip_special_tokens": True}),
        (CHAT, {"tools": [], "tool_choice": "none", "functions": [], "function_call": "auto"}),
        (CHAT, {"parallel_tool_calls": None, "modalities": ["text"], "verbosity": "medium"}),
        (CHAT, {"reasoning_effort": "none", "include_reasoning": True, "echo": False, "chat_template_kwargs": {}}),
        (CHAT, {"add_generation_prompt": True, "continue_final_message": False, "add_special_tokens": False}),
        (CLASSIFY, {"priority": 0, "add_special_tokens": True, "truncate_prompt_tokens": None, "user": None}),
        (EMBEDDINGS, {"dimensions": None, "embed_dtype": "float32", "endianness": "native", "user": "u"}),
        (EMBEDDINGS, {"encoding_format": None, "add_special_tokens": True, "priority": 0, "pooling": None}),
    ],
)
async def test_values_that_ask_for_nothing_are_accepted_where_the_parameter_exists(
    rig: ApiRig, path: str, params: dict[str, Any]
) -> None:
    await ask(rig, path, **params)


@pytest.mark.parametrize(
    ("path", "params"),
    [
        (COMPLETIONS, {"include_stop_str_in_output": True}),
        (COMPLETIONS, {"spaces_between_special_tokens": False}),
        (COMPLETIONS, {"add_special_tokens": False}),
        (CHAT, {"best_of": 2}),
        (CHAT, {"documents": [{"text": "x"}]}),
        (CHAT, {"chat_template": "{{ messages }}"}),
        (CHAT, {"add_special_tokens": True}),
        (CHAT, {"echo": True}),
        (CHAT, {"verbosity": "low"}),
        (CHAT, {"moderation": {"model": "m"}}),
        (CHAT, {"functions": [{"name": "f"}]}),
        (CLASSIFY, {"priority": 1}),
        (EMBEDDINGS, {"dimensions": 8}),
        (EMBEDDINGS, {"embed_dtype": "float16"}),
    ],
)
async def test_other_values_are_refused_by_name_streamed_or_not(rig: ApiRig, path: str, params: dict[str, Any]) -> None:
    (name,) = params
    for stream in ({}, {"stream": True}) if path in (COMPLETIONS, CHAT) else ({},):
        assert await refusal(rig, path, **stream, **params) == ("unsupported_parameter", name)
    assert rig.engine.received == []


async def test_a_refusal_says_which_values_are_accepted(rig: ApiRig) -> None:
    response = await rig.client.post(CHAT, json={**BODIES[CHAT], "function_call": "required"})
    told = 'The parameter \'function_call\' is not supported: only null and "none" and "auto" are accepted.'
    assert response.json()["error"]["message"] == told


@pytest.mark.parametrize(
    ("path", "name", "of"),
    [
        (COMPLETIONS, "max_tokens", "max_tokens"),
        (COMPLETIONS, "logprobs", "logprobs"),
        (COMPLETIONS, "seed", "seed"),
        (COMPLETIONS, "top_k", "top_k"),
        (COMPLETIONS, "max_completion_tokens", "max_tokens"),
        (CHAT, "max_tokens", "max_tokens"),
        (CHAT, "min_tokens", "min_tokens"),
        (CHAT, "max_completion_tokens", "max_tokens"),
    ],
)
async def test_whole_floats_are_integers(rig: ApiRig, path: str, name: str, of: str) -> None:
    await ask(rig, path, **{name: 4.0})
    sent = getattr(rig.engine.of(Generate)[-1].sampling, of)
    assert (sent, type(sent)) == (4, int)
    for wrong in (4.5, "4", True):
        assert await refusal(rig, path, **{name: wrong}) == ("invalid_request_error", name)


async def test_whole_floats_are_integers_inside_lists_and_below(rig: ApiRig) -> None:
    await ask(rig, COMPLETIONS, prompt=[5.0, 6], stop_token_ids=[7.0], n=1.0)
    sent = rig.engine.of(Generate)[-1]
    assert (sent.prompt, sent.sampling.stop_token_ids) == ([5, 6], (7,))
    await ask(rig, COMPLETIONS, prompt=[[5.0, 6.0]])
    assert rig.engine.of(Generate)[-1].prompt == [5, 6]
    await ask(rig, CHAT, logprobs=True, top_logprobs=2.0)
    assert rig.engine.of(Generate)[-1].sampling.logprobs == 2
    await ask(rig, EMBEDDINGS, input=[5.0, 6.0])
    await ask(rig, CLASSIFY, input=[5.0, 6.0])
    await ask(rig, COMPLETIONS, best_of=2.0, truncate_prompt_tokens=5.0)
    assert await refusal(rig, COMPLETIONS, prompt=[5, 6.5]) == ("invalid_request_error", "prompt.1")


async def test_whole_floats_are_integers_on_the_management_routes(rig: ApiRig) -> None:
    rig.publish("tone", b"1")
    rig.publish("tone", b"2")
    assert (await rig.client.put("/v1/adapters/tone/canary", json={"version": 1.0, "percent": 50.0})).status_code == 200
    assert (await rig.client.post("/v1/adapters/tone/rollback", json={"version": 1.0})).status_code == 200
    limits = await rig.client.patch("/v1/tenants/tenant/limits", json={"requests_per_minute": 1e6})
    assert limits.json()["own"]["requests_per_minute"] == 1_000_000


async def test_a_typo_on_a_management_route_is_refused_even_with_null(rig: ApiRig) -> None:
    response = await rig.client.patch("/v1/tenants/tenant/limits", json={"request_per_minute": None})
    assert (response.status_code, response.json()["error"]["param"]) == (400, "request_per_minute")


@pytest.mark.parametrize(
    ("path", "sdk", "needed"),
    [
        (CHAT, chat_create_params.CompletionCreateParamsBase, {"model", "messages"}),
        (COMPLETIONS, completion_create_params.CompletionCreateParamsBase, {"model", "prompt"}),
        (EMBEDDINGS, embedding_create_params.EmbeddingCreateParams, {"model", "input"}),
    ],
)
async def test_every_parameter_the_openai_sdk_knows_may_be_null(
    rig: ApiRig, path: str, sdk: type, needed: set[str]
) -> None:
    names = get_type_hints(sdk, vars(inspect.getmodule(sdk))).keys() - needed
    assert len(names) >= 3
    await ask(rig, path, **dict.fromkeys(names))
