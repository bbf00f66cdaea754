import asyncio
from pathlib import Path
from typing import Any

import pytest

from harness.bases.base_folder import write_base_folder
from harness.server.api_rig import BASE, ApiRig, api_rig
from harness.server.fake_engine import READY
from headmix_server.core.messages import Generate, TokenOutput
from headmix_server.core.types import FinishReason
from tests.support.sse import events

URL = "/v1/chat/completions"
USER = {"role": "user", "content": "Hello"}


def body(**params: Any) -> dict[str, Any]:
    return {"model": BASE, "messages": [USER], **params}


async def ask(rig: ApiRig, **params: Any) -> dict[str, Any]:
    response = await rig.client.post(URL, json=body(**params))
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


async def prompt_of(rig: ApiRig, **params: Any) -> str:
    await ask(rig, **params)
    return rig.state.tokenizer.decode(rig.engine.of(Generate)[-1].prompt, skip_special_tokens=False)


async def test_an_answer_is_a_message_with_exact_usage(rig: ApiRig) -> None:
    rig.says("The fox")
    answer = await ask(rig)
    sent = rig.engine.of(Generate)[0]
    made = len(rig.encode("The fox")) + 1
    assert answer["object"] == "chat.completion"
    assert answer["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "The fox", "refusal": None},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ]
    assert answer["usage"]["prompt_tokens"] == len(sent.prompt)
    assert answer["usage"]["completion_tokens"] == made
    assert answer["usage"]["prompt_tokens_details"] == {"cached_tokens": len(sent.prompt) // 2}


async def test_the_template_makes_the_prompt_and_writes_the_special_tokens_itself(rig: ApiRig) -> None:
    system = {"role": "system", "content": "Be brief."}
    rendered = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"
    assert await prompt_of(rig, messages=[system, USER]) == rendered
    assert await prompt_of(rig, messages=[{**system, "role": "developer"}, USER]) == rendered


async def test_text_parts_are_one_text(rig: ApiRig) -> None:
    parts = [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}]
    assert await prompt_of(rig, messages=[{"role": "user", "content": parts}]) == await prompt_of(rig)


async def test_without_a_limit_the_answer_may_fill_the_context(rig: ApiRig) -> None:
    await ask(rig)
    sent = rig.engine.of(Generate)[0]
    assert len(sent.prompt) + sent.sampling.max_tokens == READY.max_model_len


@pytest.mark.parametrize(
    ("params", "limit"),
    [
        ({"max_tokens": 5}, 5),
        ({"max_completion_tokens": 6}, 6),
        ({"max_tokens": 5, "max_completion_tokens": 6}, 6),
    ],
)
async def test_both_names_of_the_limit_are_understood(rig: ApiRig, params: dict[str, int], limit: int) -> None:
    await ask(rig, **params)
    assert rig.engine.of(Generate)[0].sampling.max_tokens == limit


async def test_logprobs_name_each_token_with_its_bytes(rig: ApiRig) -> None:
    rig.says(" fox日")
    content = (await ask(rig, logprobs=True, top_logprobs=2))["choices"][0]["logprobs"]["content"]
    assert bytes(byte for entry in content for byte in entry["bytes"]) == " fox日".encode()
    assert all(len(entry["top_logprobs"]) == 2 for entry in content)
    assert [entry["logprob"] for entry in content] == [-token / 1000 for token in rig.encode(" fox日")]


async def test_a_stream_joined_is_the_whole_answer(rig: ApiRig) -> None:
    rig.says("The 日本 fox")
    whole = await ask(rig, n=2, logprobs=True, seed=1)
    response = await rig.client.post(
        URL, json=body(n=2, logprobs=True, seed=1, stream=True, stream_options={"include_usage": True})
    )
    *chunks, done = events(response.text)
    assert done == "[DONE]"
    assert chunks[-1]["usage"] == whole["usage"]
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    for choice in whole["choices"]:
        mine = [c for chunk in chunks for c in chunk["choices"] if c["index"] == choice["index"]]
        assert mine[0]["delta"] == {"role": "assistant", "content": ""}
        assert mine[-1]["delta"] == {}
        assert [c["finish_reason"] for c in mine] == [None] * (len(mine) - 1) + ["stop"]
        assert "".join(c["delta"].get("content", "") for c in mine) == choice["message"]["content"]
        scored = [entry for c in mine if c["logprobs"] for entry in c["logprobs"]["content"]]
        assert scored == choice["logprobs"]["content"]


async def test_a_stop_string_over_several_events_is_never_shown(rig: ApiRig) -> None:
    tokens = rig.encode("The quick brown fox")
    rig.engine.answer = lambda message: (
        [TokenOutput(request_id=message.request_id, tokens=[token]) for token in tokens]
        + [TokenOutput(request_id=message.request_id, tokens=[2], finish_reason=FinishReason.STOP)]
        if isinstance(message, Generate)
        else []
    )
    response = await rig.client.post(URL, json=body(stop=["brown fox"], stream=True))
    texts = [choice["delta"].get("content", "") for chunk in events(response.text)[:-1] for choice in chunk["choices"]]
    assert "".join(texts) == "The quick "


async def test_a_client_that_leaves_aborts_the_engine_request(rig: ApiRig) -> None:
    rig.engine.answering = False
    task = asyncio.create_task(rig.client.post(URL, json=body()))
    await rig.engine.expect(Generate)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert await rig.engine.aborted()


async def test_a_base_without_a_template_says_so(tmp_path: Path) -> None:
    folder = write_base_folder(tmp_path / "base", chat_template=None)
    async with api_rig(folder, tmp_path) as rig:
        error = (await rig.client.post(URL, json=body())).json()["error"]
        assert error["code"] == "invalid_request_error"
        assert "chat template" in error["message"]


async def test_messages_the_template_refuses_are_the_clients_error(tmp_path: Path) -> None:
    folder = write_base_folder(tmp_path / "base", chat_template="{{ raise_exception('Roles must alternate.') }}")
    async with api_rig(folder, tmp_path) as rig:
        error = (await rig.client.post(URL, json=body())).json()["error"]
        assert (error["code"], error["param"]) == ("invalid_request_error", "messages")
        assert "Roles must alternate." in error["message"]
