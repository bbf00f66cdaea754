"""Log probabilities in both of the API's formats."""

from headmix.types import ChatCompletion, Completion
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
