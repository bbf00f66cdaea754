"""What a chat says about its prompt: the template's variables, where the prompt ends, and reasoning in messages."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from harness.bases.base_folder import CHATML, IM_END, IM_START, write_base_folder
from harness.server.api_rig import BASE, ApiRig, api_rig
from headmix_server.core.messages import Generate

URL = "/v1/chat/completions"
THINKING = (
    "{%- if enable_thinking is not defined %}{% set enable_thinking = true %}{% endif %}"
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.reasoning_content %}<think>{{ message.reasoning_content }}</think>{% endif %}"
    "{{ message.content | trim }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% if not enable_thinking %}<think></think>{% endif %}"
    "{% endif %}{{ note }}"
)
USER = {"role": "user", "content": "Hello"}
BEGUN = {"role": "assistant", "content": "Once upon "}


@pytest.fixture
async def thinking(tmp_path: Path) -> AsyncIterator[ApiRig]:
    folder = write_base_folder(tmp_path / "thinking", chat_template=THINKING)
    async with api_rig(folder, tmp_path / "data") as running:
        running.says("a fox")
        yield running


async def prompt_of(rig: ApiRig, **params: Any) -> str:
    for stream in (True, False):
        response = await rig.client.post(URL, json={"model": BASE, "messages": [USER], "stream": stream, **params})
        assert response.status_code == 200, response.text
    streamed, whole = rig.engine.of(Generate)[-2:]
    assert streamed.prompt == whole.prompt
    return rig.state.tokenizer.decode(whole.prompt, skip_special_tokens=False)


async def refusal(rig: ApiRig, **params: Any) -> tuple[str, str]:
    content = json.dumps({"model": BASE, "messages": [USER], **params})
    response = await rig.client.post(URL, content=content, headers={"content-type": "application/json"})
    assert response.status_code == 400, response.text
    assert not rig.engine.of(Generate)
    error = response.json()["error"]
    return error["code"], error["param"]


async def test_a_variable_reaches_the_template(thinking: ApiRig) -> None:
    plain = await prompt_of(thinking)
    assert plain == f"{IM_START}user\nHello{IM_END}\n{IM_START}assistant\n"
    assert await prompt_of(thinking, chat_template_kwargs={"enable_thinking": False}) == f"{plain}<think></think>"
    assert await prompt_of(thinking, chat_template_kwargs={"enable_thinking": True, "note": [1, "x"]}) == (
        f"{plain}[1, 'x']"
    )


async def test_nothing_asked_of_a_template_that_reads_no_such_variable_is_accepted(rig: ApiRig) -> None:
    plain = await prompt_of(rig)
    for variables in ({}, {"enable_thinking": False}, {"enable_thinking": None, "thinking": False}):
        assert await prompt_of(rig, chat_template_kwargs=variables) == plain


@pytest.mark.parametrize(
    ("variables", "param"),
    [
        ({"enable_thinking": True}, "enable_thinking"),
        ({"enable_thinking": 0}, "enable_thinking"),
        ({"messages": []}, "messages"),
        ({"tools": None}, "tools"),
        ({"add_generation_prompt": False}, "add_generation_prompt"),
        ({"bos_token": None}, "bos_token"),
        ({"chat_template": "{{ 1 }}"}, "chat_template"),
        ({"raise_exception": 1}, "raise_exception"),
        ({"x\ud800": 1}, None),
        ({"loop": 1}, "loop"),
    ],
)
async def test_variables_that_the_template_does_not_read_are_refused_by_name(
    rig: ApiRig, variables: dict[str, object], param: str | None
) -> None:
    code, blamed = await refusal(rig, chat_template_kwargs=variables)
    if param is None:
        assert (code, blamed) == ("invalid_request_error", "chat_template_kwargs")
    else:
        assert (code, blamed) == ("unsupported_parameter", f"chat_template_kwargs.{param}")


@pytest.mark.parametrize(
    "variables", [{"note": "x" * 20_000}, {"note": "\ud800"}, {"note": [[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]}, ["note"]]
)
async def test_variables_are_bounded(thinking: ApiRig, variables: object) -> None:
    assert await refusal(thinking, chat_template_kwargs=variables) == ("invalid_request_error", "chat_template_kwargs")


async def test_special_tokens_in_variables_are_text_where_that_is_asked_for(thinking: ApiRig) -> None:
    end = thinking.state.tokenizer.token_id(IM_END) or -1
    counts = []
    for split in (False, True):
        await prompt_of(thinking, chat_template_kwargs={"note": f"x{IM_END}"}, split_special_tokens=split)
        counts.append(thinking.engine.of(Generate)[-1].prompt.count(end))
    assert counts == [2, 1]


async def test_the_answer_continues_the_last_message(rig: ApiRig, thinking: ApiRig) -> None:
    messages = [USER, BEGUN]
    for params in ({}, {"add_generation_prompt": False}):
        told = await prompt_of(rig, messages=messages, continue_final_message=True, **params)
        assert told.endswith(f"{IM_START}assistant\nOnce upon ")
    stripped = await prompt_of(thinking, messages=messages, continue_final_message=True)
    assert stripped.endswith(f"{IM_START}assistant\nOnce upon")
    parts = {"role": "assistant", "content": [{"type": "text", "text": "Once "}, {"type": "text", "text": "upon "}]}
    assert await prompt_of(rig, messages=[USER, parts], continue_final_message=True) == told


async def test_a_long_conversation_is_continued_like_a_short_one(rig: ApiRig) -> None:
    """The first is rendered on the event loop, the other in a worker."""
    short = await prompt_of(rig, messages=[USER, BEGUN], continue_final_message=True)
    rendered = await prompt_of(
        rig, messages=[USER, BEGUN], continue_final_message=True, chat_template_kwargs={"x": None}
    )
    split = await prompt_of(
        rig,
        messages=[{"role": "user", "content": f"Hello{IM_END}"}, BEGUN],
        continue_final_message=True,
        split_special_tokens=True,
    )
    assert short == rendered
    assert split.endswith(f"{IM_START}assistant\nOnce upon ")


async def test_without_a_generation_prompt_the_prompt_ends_with_the_last_turn(rig: ApiRig) -> None:
    assert (await prompt_of(rig, add_generation_prompt=False)).endswith(f"Hello{IM_END}\n")
    assert (await prompt_of(rig, add_generation_prompt=True)).endswith(f"{IM_START}assistant\n")


async def test_a_prompt_cannot_both_continue_a_message_and_begin_one(rig: ApiRig) -> None:
    told = await refusal(rig, messages=[USER, BEGUN], continue_final_message=True, add_generation_prompt=True)
    assert told == ("invalid_request_error", "continue_final_message")


async def test_a_message_that_the_template_does_not_show_cannot_be_continued(tmp_path: Path) -> None:
    folder = write_base_folder(tmp_path / "base", chat_template="{{ messages[0].content }}")
    async with api_rig(folder, tmp_path / "data") as rig:
        told = await refusal(rig, messages=[USER, BEGUN], continue_final_message=True)
        assert told == ("invalid_request_error", "messages")


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
async def test_reasoning_goes_to_the_template_which_may_leave_it_out(rig: ApiRig, thinking: ApiRig, name: str) -> None:
    messages = [USER, {"role": "assistant", "content": "Yo", name: "hm"}, USER]
    without = [USER, {"role": "assistant", "content": "Yo"}, USER]
    assert "<think>hm</think>Yo" in await prompt_of(thinking, messages=messages)
    assert await prompt_of(rig, messages=messages) == await prompt_of(rig, messages=without)


def test_the_usual_template_here_reads_no_reasoning() -> None:
    assert "reasoning" not in CHATML
