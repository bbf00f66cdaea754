"""POST /v1/responses: a chat in OpenAI's newer shape, without state."""

import asyncio
import json
from typing import Any

import pytest

from harness.bases.base_folder import IM_END
from harness.server.api_rig import BASE, ApiRig
from headmix_server.core.messages import Failed, Generate, TokenOutput
from headmix_server.text.grammars.wanted import JsonText
from headmix_server.text.grammars.write import write_grammar

URL, CHAT = "/v1/responses", "/v1/chat/completions"
USER = {"role": "user", "content": "Hello"}
SCHEMA = {"type": "object", "properties": {"output": {"type": "array", "maxItems": 0}}, "required": ["output"]}
FORMAT = {"type": "json_schema", "name": "city", "schema": SCHEMA, "strict": True}


async def ask(rig: ApiRig, **params: Any) -> dict[str, Any]:
    response = await rig.client.post(URL, json={"model": BASE, "input": "Hello", **params})
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


async def refusal(rig: ApiRig, **params: Any) -> dict[str, Any]:
    content = json.dumps({"model": BASE, "input": "Hello", **params})
    response = await rig.client.post(URL, content=content, headers={"content-type": "application/json"})
    assert response.status_code == 400, response.text
    assert not rig.engine.of(Generate)
    error: dict[str, Any] = response.json()["error"]
    return error


async def stream(rig: ApiRig, **params: Any) -> list[dict[str, Any]]:
    """Return the events of a stream, each of which has its type as its name."""
    response = await rig.client.post(URL, json={"model": BASE, "input": "Hello", "stream": True, **params})
    assert response.headers["content-type"].startswith("text/event-stream")
    events = []
    for block in response.text.strip().split("\n\n"):
        name, data = block.split("\n")
        events.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {events[-1]['type']}"
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    return events


async def prompt_of_chat(rig: ApiRig, messages: list[dict[str, Any]]) -> list[int]:
    await rig.client.post(CHAT, json={"model": BASE, "messages": messages})
    return rig.engine.of(Generate)[-1].prompt


async def test_an_answer_is_a_message_with_its_usage(rig: ApiRig) -> None:
    rig.says("The fox")
    answer = await ask(rig, metadata={"a": "b"}, store=False, user="u")
    sent, made = rig.engine.of(Generate)[0], len(rig.encode("The fox")) + 1
    (item,) = answer["output"]
    assert item["content"] == [{"type": "output_text", "text": "The fox", "annotations": [], "logprobs": []}]
    assert (item["type"], item["role"], item["status"]) == ("message", "assistant", "completed")
    assert (answer["object"], answer["status"], answer["model"]) == ("response", "completed", BASE)
    assert (answer["metadata"], answer["store"], answer["error"]) == ({"a": "b"}, False, None)
    assert answer["usage"]["input_tokens"] == len(sent.prompt)
    assert answer["usage"]["output_tokens"] == made
    assert answer["usage"]["total_tokens"] == len(sent.prompt) + made
    assert answer["usage"]["input_tokens_details"]["cached_tokens"] == len(sent.prompt) // 2


@pytest.mark.parametrize(
    ("given", "messages"),
    [
        ({"input": "Hello"}, [USER]),
        ({"input": [USER]}, [USER]),
        ({"input": [{**USER, "type": "message"}], "instructions": "Be brief."}, "instructed"),
        ({"input": [{"role": "user", "content": [{"type": "input_text", "text": "Hello"}]}]}, [USER]),
        (
            {
                "input": [
                    USER,
                    {
                        "id": "msg_1",
                        "type": "message",
                        "status": "completed",
                        "role": "assistant",
                        "content": [{"type": "output_text", "text": "Yo", "annotations": [], "logprobs": []}],
                    },
                    USER,
                ]
            },
            [USER, {"role": "assistant", "content": "Yo"}, USER],
        ),
    ],
)
async def test_the_input_is_the_same_conversation_as_in_a_chat(
    rig: ApiRig, given: dict[str, Any], messages: Any
) -> None:
    if messages == "instructed":
        messages = [{"role": "system", "content": "Be brief."}, USER]
    await ask(rig, **given)
    sent = rig.engine.of(Generate)[-1].prompt
    assert sent == await prompt_of_chat(rig, messages)


@pytest.mark.parametrize("content", [None, [], [{"type": "reasoning_text", "text": ""}]])
async def test_an_input_without_a_message_is_refused(rig: ApiRig, content: object) -> None:
    error = await refusal(rig, input=[{"type": "reasoning", "content": content}])
    assert error["param"] == "input"
    assert (await ask(rig, input=[{"type": "reasoning", "content": content}, USER]))["status"] == "completed"


async def test_an_answer_sent_back_is_a_turn_of_the_conversation(rig: ApiRig) -> None:
    rig.says("Yo")
    first = await ask(rig)
    await ask(rig, input=[USER, *first["output"], USER])
    sent = rig.engine.of(Generate)[-1].prompt
    assert sent == await prompt_of_chat(rig, [USER, {"role": "assistant", "content": "Yo"}, USER])


async def test_every_parameter_reaches_the_engine(rig: ApiRig) -> None:
    params = {"temperature": 0.5, "top_p": 0.25, "seed": 7, "top_k": 3, "min_p": 0.125, "repetition_penalty": 1.5}
    answer = await ask(rig, max_output_tokens=5.0, **params)
    sampling = rig.engine.of(Generate)[0].sampling
    assert {name: getattr(sampling, name) for name in params} == params
    assert sampling.max_tokens == 5
    assert (answer["temperature"], answer["top_p"], answer["max_output_tokens"]) == (0.5, 0.25, 5)


async def test_a_text_that_is_cut_is_incomplete(rig: ApiRig) -> None:
    rig.says("The quick fox")
    for answer in (
        await ask(rig, max_output_tokens=1),
        (await stream(rig, max_output_tokens=1))[-1]["response"],
    ):
        assert (answer["status"], answer["output"][0]["status"]) == ("incomplete", "incomplete")
        assert answer["incomplete_details"] == {"reason": "max_output_tokens"}


@pytest.mark.parametrize(
    ("form", "wanted"),
    [
        ({"type": "text"}, None),
        ({"type": "json_object"}, JsonText({"type": "object"})),
        (FORMAT, JsonText(SCHEMA)),
    ],
)
async def test_the_form_of_the_text_is_that_of_a_chat(
    rig: ApiRig, form: dict[str, Any], wanted: JsonText | None
) -> None:
    rig.says("{}")
    answer = await ask(rig, text={"format": form, "verbosity": "medium"})
    assert rig.engine.of(Generate)[0].sampling.grammar == (None if wanted is None else write_grammar(wanted))
    assert answer["text"] == {"format": form}
    assert answer["output"][0]["content"][0]["text"] == "{}"


async def test_log_probabilities_come_where_they_are_included(rig: ApiRig) -> None:
    rig.says(" the fox")
    for params, alternatives in (({"include": ["message.output_text.logprobs"]}, 0), ({"top_logprobs": 2}, 2)):
        answer = await ask(rig, **params)
        logprobs = answer["output"][0]["content"][0]["logprobs"]
        assert "".join(entry["token"] for entry in logprobs) == " the fox"
        assert {len(entry["top_logprobs"]) for entry in logprobs} == {alternatives}
        events = await stream(rig, **params)
        streamed = [entry for event in events if event["type"].endswith("text.delta") for entry in event["logprobs"]]
        assert streamed == logprobs == events[-1]["response"]["output"][0]["content"][0]["logprobs"]


async def test_a_stream_tells_of_every_step_and_joined_is_the_whole_answer(rig: ApiRig) -> None:
    rig.says("The 日本 fox")
    whole = await ask(rig, instructions='Say "output":[].', text={"format": FORMAT}, seed=1)
    events = await stream(rig, instructions='Say "output":[].', text={"format": FORMAT}, seed=1)
    kinds = [event["type"].removeprefix("response.") for event in events]
    assert kinds[:4] == ["created", "in_progress", "output_item.added", "content_part.added"]
    assert kinds[-4:] == ["output_text.done", "content_part.done", "output_item.done", "completed"]
    assert set(kinds[4:-4]) == {"output_text.delta"}
    text = "".join(event["delta"] for event in events[4:-4])
    added, done, response = events[2]["item"], events[-2]["item"], events[-1]["response"]
    assert text == events[-4]["text"] == events[-3]["part"]["text"] == done["content"][0]["text"] == "The 日本 fox"
    assert {event["item_id"] for event in (*events[3:-2],)} == {added["id"]} == {done["id"]}
    assert events[0]["response"]["status"] == "in_progress"
    assert {event["response"]["id"] for event in (events[0], events[1], events[-1])} == {response["id"]}
    assert response["output"] == [done]

    def settled(answer: dict[str, Any]) -> dict[str, Any]:
        output = [{**item, "id": ""} for item in answer["output"]]
        return {**answer, "id": "", "created_at": 0, "output": output}

    assert settled(response) == settled(whole)


async def test_an_answer_without_text_is_an_empty_message(rig: ApiRig) -> None:
    for answer in (await ask(rig), (await stream(rig))[-1]["response"]):
        assert answer["output"][0]["content"][0]["text"] == ""


async def test_an_error_before_the_first_event_is_a_status_and_a_later_one_is_an_event(rig: ApiRig) -> None:
    said: list[TokenOutput] = []

    def fail(message: object) -> list[TokenOutput | Failed]:
        if not isinstance(message, Generate):
            return []
        outputs = [TokenOutput(request_id=message.request_id, tokens=rig.encode("Hi"))] if said else []
        return [*outputs, Failed(request_id=message.request_id, code="engine_unavailable", message="it died")]

    rig.engine.answer = fail
    early = await rig.client.post(URL, json={"model": BASE, "input": "x", "stream": True})
    assert (early.status_code, early.json()["error"]["code"]) == (503, "engine_unavailable")
    said.append(TokenOutput(request_id="", tokens=[]))
    *_, delta, last = await stream(rig)
    assert delta["delta"] == "Hi"
    assert (last["type"], last["response"]["status"]) == ("response.failed", "failed")
    assert last["response"]["error"] == {"code": "server_error", "message": "it died"}


async def test_a_client_that_leaves_aborts_the_engine_request(rig: ApiRig) -> None:
    rig.engine.answering = False
    task = asyncio.create_task(rig.client.post(URL, json={"model": BASE, "input": "x"}))
    await rig.engine.expect(Generate)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert await rig.engine.aborted()


@pytest.mark.parametrize(
    ("params", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"conversation": {"id": "conv_1"}}, "conversation"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt"),
        ({"background": True}, "background"),
        ({"store": True}, "store"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input.0.type"),
    ],
)
async def test_what_needs_something_stored_is_refused_by_name(rig: ApiRig, params: dict[str, Any], param: str) -> None:
    for stream_it in (False, True):
        error = await refusal(rig, stream=stream_it, **params)
        assert (error["code"], error["param"]) == ("unsupported_parameter", param)
        assert "stores no" in error["message"]


@pytest.mark.parametrize(
    ("params", "code", "param"),
    [
        ({"n": 2}, "unsupported_parameter", "n"),
        ({"max_tokens": 5}, "unsupported_parameter", "max_tokens"),
        ({"truncation": "auto"}, "unsupported_parameter", "truncation"),
        ({"max_tool_calls": 3}, "unsupported_parameter", "max_tool_calls"),
        ({"reasoning": {"effort": "high"}}, "unsupported_parameter", "reasoning.effort"),
        ({"text": {"verbosity": "low"}}, "unsupported_parameter", "text.verbosity"),
        ({"text": {"format": {"type": "grammar"}}}, "invalid_request_error", "text.format.type"),
        ({"text": {"format": {**FORMAT, "schema": {"not": {}}}}}, "invalid_request_error", "text.format"),
        ({"include": ["file_search_call.results"]}, "invalid_request_error", "include.0"),
        ({"input": []}, "invalid_request_error", "input"),
        ({"input": None}, "invalid_request_error", "input"),
        ({"input": [5]}, "invalid_request_error", "input.0"),
        ({"input": "\ud800"}, "invalid_request_error", "input"),
        ({"input": [{"role": "tool", "content": "x"}]}, "invalid_request_error", "input.0.role"),
        ({"input": [{"type": "web_search_call", "id": "1"}]}, "unsupported_parameter", "input.0.type"),
        (
            {"input": [{**USER, "content": [{"type": "input_image"}]}]},
            "unsupported_parameter",
            "input.0.content.0.type",
        ),
        ({"input": "Hello " * 400}, "context_length_exceeded", "input"),
        ({"max_output_tokens": 0}, "invalid_request_error", "max_output_tokens"),
        ({"max_output_tokens": 10_000}, "context_length_exceeded", "input"),
        ({"metadata": {"a": "x" * 100_000}}, "invalid_request_error", "metadata"),
        ({"temperature": 3}, "invalid_request_error", "temperature"),
        ({"top_logprobs": 21}, "invalid_request_error", "top_logprobs"),
    ],
)
async def test_what_is_refused_is_named_as_responses_name_it(
    rig: ApiRig, params: dict[str, Any], code: str, param: str
) -> None:
    error = await refusal(rig, **params)
    assert (error["code"], error["param"]) == (code, param)
    assert "response_format" not in error["message"]


@pytest.mark.parametrize(
    "params",
    [
        {"previous_response_id": None, "conversation": None, "prompt": None, "background": False, "store": None},
        {"truncation": "disabled", "tools": [], "tool_choice": "auto", "parallel_tool_calls": True},
        {"reasoning": {"effort": None, "summary": None}, "include": ["reasoning.encrypted_content"]},
        {"reasoning": {"effort": "none"}, "text": {"format": None}, "stream_options": {"include_obfuscation": False}},
        {"service_tier": "auto", "prompt_cache_key": "k", "safety_identifier": "s", "max_tool_calls": None},
    ],
)
async def test_values_that_ask_for_nothing_are_accepted(rig: ApiRig, params: dict[str, Any]) -> None:
    await ask(rig, **params)
    await stream(rig, **params)


async def test_there_is_nothing_to_read_or_delete(rig: ApiRig) -> None:
    first = await ask(rig)
    for method in ("GET", "DELETE"):
        gone = await rig.client.request(method, f"{URL}/{first['id']}")
        assert (gone.status_code, gone.json()["error"]["code"]) == (404, "not_found")


async def test_an_adapter_answers_under_its_name(rig: ApiRig) -> None:
    version = rig.publish("tone")
    response = await rig.client.post(URL, json={"model": "tone", "input": "x"})
    assert response.headers["x-headmix-adapter"] == f"tone@1 {version.digest}"
    assert rig.engine.of(Generate)[0].adapter == rig.state.library.ref(version)


async def test_special_tokens_in_the_input_are_text_where_that_is_asked_for(rig: ApiRig) -> None:
    end, counts = rig.state.tokenizer.token_id(IM_END) or -1, []
    for split in (False, True):
        await ask(rig, input=f"a{IM_END}", instructions=f"b{IM_END}", split_special_tokens=split)
        counts.append(rig.engine.of(Generate)[-1].prompt.count(end))
    assert counts[0] == counts[1] + 2
