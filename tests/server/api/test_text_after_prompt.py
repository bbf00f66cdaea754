"""On bases whose decoder drops a text's first space, a completion keeps its own: whole, streamed, echoed or stopped."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from harness.bases.tokenizer_kinds import write_tokenizer
from harness.server.api_rig import BASE, ApiRig, api_rig
from headmix_server.core.messages import Generate, TokenOutput
from headmix_server.core.types import FinishReason, TokenLogprob
from tests.support.sse import events

COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"
TEMPLATE = "{% for m in messages %}[INST] {{ m.content }} [/INST]{% endfor %}"


@pytest.fixture(params=["llama2", "metaspace", "unigram"])
async def rig(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ApiRig]:
    folder = write_tokenizer(tmp_path / "base", request.param)
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    async with api_rig(folder, tmp_path / "data") as running:
        yield running


async def ask(rig: ApiRig, url: str, **params: Any) -> Any:
    given = {"messages": [{"role": "user", "content": "the fox"}]} if url == CHAT else {"prompt": "the fox"}
    response = await rig.client.post(url, json={"model": BASE, **given, **params})
    assert response.status_code == 200, response.text
    return response


async def streamed(rig: ApiRig, url: str, **params: Any) -> str:
    """Return the text of a stream."""
    chunks = events((await ask(rig, url, stream=True, **params)).text)[:-1]
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    return "".join(choice["text"] if url == COMPLETIONS else choice["delta"].get("content", "") for choice in choices)


async def whole(rig: ApiRig, url: str, **params: Any) -> Any:
    choice = (await ask(rig, url, **params)).json()["choices"][0]
    return choice["text"] if url == COMPLETIONS else choice["message"]["content"]


@pytest.mark.parametrize("url", [COMPLETIONS, CHAT])
async def test_the_first_word_keeps_its_space(rig: ApiRig, url: str) -> None:
    rig.says("jumps over")
    assert await whole(rig, url) == " jumps over"
    assert await streamed(rig, url) == " jumps over"


@pytest.mark.parametrize("prompt", ["text", "ids"])
async def test_echo_puts_a_space_between_prompt_and_text(rig: ApiRig, prompt: str) -> None:
    rig.says("jumps over")
    given = "the fox" if prompt == "text" else rig.state.tokenizer.encode("the fox")
    assert await whole(rig, COMPLETIONS, echo=True, prompt=given) == "the fox jumps over"
    assert await streamed(rig, COMPLETIONS, echo=True, prompt=given) == "the fox jumps over"
    assert await whole(rig, COMPLETIONS, echo=True, prompt=given, max_tokens=0) == "the fox"


@pytest.mark.parametrize("url", [COMPLETIONS, CHAT])
async def test_a_stop_string_that_is_the_first_word_with_its_space_is_found(rig: ApiRig, url: str) -> None:
    rig.says("jumps over")
    assert await whole(rig, url, stop=[" jumps"]) == ""
    assert await streamed(rig, url, stop=[" ov"]) == " jumps"


async def test_names_and_bytes_of_tokens_join_to_the_content(rig: ApiRig) -> None:
    rig.says("jumps over")
    choice = (await ask(rig, CHAT, logprobs=True)).json()["choices"][0]
    content = choice["logprobs"]["content"]
    assert bytes(byte for entry in content for byte in entry["bytes"]).decode() == choice["message"]["content"]
    assert "".join(entry["token"] for entry in content) == choice["message"]["content"] == " jumps over"
    choice = (await ask(rig, COMPLETIONS, logprobs=0, echo=True)).json()["choices"][0]
    logprobs, prompt = choice["logprobs"], rig.state.tokenizer.encode("the fox")
    assert "".join(logprobs["tokens"][len(prompt) :]) == " jumps over"
    assert logprobs["text_offset"][len(prompt)] == len("the fox")


async def test_no_two_tokens_share_an_entry_of_top_logprobs(rig: ApiRig) -> None:
    """A word with and without its space, a byte and the letter it encodes, a special token, a row without a token."""
    tokenizer = rig.state.tokenizer
    pieces = ("▁the", "the", "a", "▁a", "<0x61>", "<0xE2>", "</s>")
    alike = [token for piece in pieces if (token := tokenizer.token_id(piece)) is not None]
    candidates = [*alike, tokenizer.vocab_size]
    top = [(token, -1.0 - place) for place, token in enumerate(candidates)]
    chosen = candidates[0]
    rig.engine.answer = lambda message: (
        [
            TokenOutput(
                request_id=message.request_id,
                tokens=[chosen],
                logprobs=[TokenLogprob(token=chosen, logprob=-1.0, top=tuple(top))],
                finish_reason=FinishReason.LENGTH,
            )
        ]
        if isinstance(message, Generate)
        else []
    )
    choice = (await ask(rig, COMPLETIONS, logprobs=5)).json()["choices"][0]
    (shown,) = choice["logprobs"]["top_logprobs"]
    assert list(shown.values()) == [value for _, value in top]
    assert shown[choice["logprobs"]["tokens"][0]] == max(shown.values())
    content = (await ask(rig, CHAT, logprobs=True, top_logprobs=5)).json()["choices"][0]["logprobs"]["content"]
    assert {entry["token"]: entry["logprob"] for entry in content[0]["top_logprobs"]} == shown
    nothing = [entry["token"] for entry in content[0]["top_logprobs"] if entry["bytes"] is None]
    assert nothing == ["</s>", f"token_id:{tokenizer.vocab_size}"]
