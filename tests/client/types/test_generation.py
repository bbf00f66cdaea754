"""Log probabilities in both of the API's formats."""

from headmix.types import ChatChunk, ChatCompletion, Completion, joined_calls
from tests.client.wire import CHAT, COMPLETION


def test_completion_logprobs() -> None:
    logprobs = {
        "tokens": [" wor", "ld"],
        "token_logprobs": [None, -0.5],
        "top_logprobs": [None, {"ld": -0.5, "k": -1.0}],
        "text_offset": [5, 9],
    }
    choice = {"index": 0, "text": " world", "finish_reason": "stop", "logprobs": logprobs}
    found = Completion.model_validate(COMPLETION | {"choices": [choice]}).choices[0].logprobs
    assert found is not None
    assert found.token_logprobs == (None, -0.5)
    assert found.top_logprobs == (None, {"ld": -0.5, "k": -1.0})


def test_chat_logprobs() -> None:
    token = {"token": "Hi", "logprob": -0.1, "bytes": [72, 105]}
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": "Hi"},
        "finish_reason": "stop",
        "logprobs": {"content": [token | {"top_logprobs": [token]}]},
    }
    found = ChatCompletion.model_validate(CHAT | {"choices": [choice]}).choices[0].logprobs
    assert found is not None
    assert found.content is not None
    assert found.content[0].top_logprobs[0].logprob == -0.1


def test_an_answer_without_choices_has_no_text() -> None:
    assert Completion.model_validate(COMPLETION | {"choices": []}).text == ""
    assert ChatCompletion.model_validate(CHAT | {"choices": []}).text == ""


CALL = {"id": "call_1", "type": "function", "function": {"name": "now", "arguments": "{}"}}


def test_calls_of_tools_are_read() -> None:
    message = {"role": "assistant", "content": None, "tool_calls": [CALL], "reasoning_content": "Hm."}
    found = ChatCompletion.model_validate(CHAT | {"choices": [{"index": 0, "message": message}]})
    assert found.text == ""
    assert [(call.id, call.function.name, call.function.arguments) for call in found.tool_calls] == [
        ("call_1", "now", "{}")
    ]
    assert found.choices[0].message.reasoning_content == "Hm."
    assert ChatCompletion.model_validate(CHAT).tool_calls == ()
    assert ChatCompletion.model_validate(CHAT | {"choices": []}).tool_calls == ()


def test_the_calls_of_a_stream_are_joined() -> None:
    events = [
        {"index": 0, "id": "call_1", "type": "function", "function": {"name": "now", "arguments": ""}},
        {"index": 0, "function": {"arguments": "{"}},
        {"index": 1, "id": "call_2", "type": "function", "function": {"name": "then", "arguments": ""}},
        {"index": 0, "function": {"arguments": "}"}},
        {"index": 1, "function": {"arguments": '{"a": 1}'}},
    ]
    chunks = [
        ChatChunk.model_validate(CHAT | {"choices": [{"index": 0, "delta": {"tool_calls": [event]}}]})
        for event in events
    ]
    calls = joined_calls(part for chunk in chunks for part in chunk.tool_calls)
    assert [(call.id, call.function.name, call.function.arguments) for call in calls] == [
        ("call_1", "now", "{}"),
        ("call_2", "then", '{"a": 1}'),
    ]
