"""`skip_special_tokens: false`: special tokens that are generated are text, in every shape of answer."""

from typing import Any

import pytest

from harness.bases.base_folder import IM_END, IM_START
from harness.server.api_rig import BASE, ApiRig
from tests.support.sse import events

COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"
WORDS = ("<subject>",)


@pytest.fixture
def said(rig: ApiRig) -> str:
    rig.publish("odd", added_tokens=WORDS)
    rig.engine.reply = rig.encode(f"A {IM_START}fox{IM_START}")
    return f"A {IM_START}fox{IM_START}"


async def text_of(rig: ApiRig, url: str, **params: Any) -> tuple[str, str]:
    """Return the text of an answer, streamed and not."""
    prompt: dict[str, Any] = {"prompt": "x"} if url == COMPLETIONS else {"messages": [{"role": "user", "content": "x"}]}
    body = {"model": BASE, "max_tokens": 50, **prompt, **params}
    whole = await rig.client.post(url, json=body)
    assert whole.status_code == 200, whole.text
    streamed = events((await rig.client.post(url, json={**body, "stream": True})).text)[:-1]
    choices = [choice for event in streamed for choice in event["choices"]]
    (choice,) = whole.json()["choices"]
    if url == COMPLETIONS:
        return choice["text"], "".join(part["text"] for part in choices)
    return choice["message"]["content"], "".join(part["delta"].get("content", "") for part in choices)


@pytest.mark.parametrize("url", [COMPLETIONS, CHAT])
async def test_they_are_shown_where_that_is_asked_for_but_not_the_end(rig: ApiRig, said: str, url: str) -> None:
    assert await text_of(rig, url, skip_special_tokens=False) == (said, said)
    for usual in ({}, {"skip_special_tokens": True}, {"skip_special_tokens": None}):
        assert await text_of(rig, url, **usual) == ("A fox", "A fox")


async def test_beside_an_adapters_added_tokens(rig: ApiRig, said: str) -> None:
    first = rig.state.base.shape.vocab_size
    rig.engine.reply = [first, *rig.encode(IM_START), *rig.encode(" fox")]
    shown = f"<subject>{IM_START} fox"
    assert await text_of(rig, COMPLETIONS, model="odd", skip_special_tokens=False) == (shown, shown)


async def test_a_stop_string_may_be_one(rig: ApiRig, said: str) -> None:
    assert await text_of(rig, CHAT, skip_special_tokens=False, stop=IM_START) == ("A ", "A ")
    assert await text_of(rig, CHAT, stop=IM_START) == ("A fox", "A fox")


async def test_log_probabilities_point_into_the_text_and_their_bytes_join_to_it(rig: ApiRig, said: str) -> None:
    body = {"model": BASE, "prompt": f"x{IM_END}", "max_tokens": 50, "logprobs": 0, "echo": True}
    answer = await rig.client.post(COMPLETIONS, json={**body, "skip_special_tokens": False})
    (choice,) = answer.json()["choices"]
    assert choice["text"] == f"x{IM_END}{said}"
    logprobs = choice["logprobs"]
    for token, offset in zip(logprobs["tokens"], logprobs["text_offset"], strict=True):
        assert choice["text"].startswith(token, offset)
    chat = {"model": BASE, "messages": [{"role": "user", "content": "x"}], "logprobs": True}
    answer = await rig.client.post(CHAT, json={**chat, "skip_special_tokens": False})
    (choice,) = answer.json()["choices"]
    raw = [byte for entry in choice["logprobs"]["content"] for byte in entry["bytes"]]
    assert bytes(raw).decode() == choice["message"]["content"] == said
