"""`truncate_prompt_tokens`: texts that are too long are cut instead of refused, on every route, small and large."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from harness.bases.tokenizer_kinds import write_tokenizer
from harness.server.api_rig import BASE, ApiRig, api_rig
from headmix_server.core.messages import Classify, Embed, Generate
from tests.support.sse import events

COMPLETIONS, CHAT, CLASSIFY, EMBEDDINGS = "/v1/completions", "/v1/chat/completions", "/v1/classify", "/v1/embeddings"
TEXT = "The quick brown fox jumps over the lazy dog."
WORDS = ("<subject>", "<object>")


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[ApiRig]:
    """On a base that begins every text with a special token."""
    folder = write_tokenizer(tmp_path / "base", "llama2")
    (folder / "chat_template.jinja").write_text(
        "{% for m in messages %}[{{ m.content }}]{% endfor %}", encoding="utf-8"
    )
    async with api_rig(folder, tmp_path / "data") as running:
        running.publish("judge", labels=("a", "b"), added_tokens=WORDS)
        running.publish("odd", added_tokens=WORDS)
        running.engine.probs, running.engine.vector = [0.5, 0.5], [1.0]
        yield running


async def prompts(rig: ApiRig, url: str, model: str = BASE, **params: Any) -> list[list[int]]:
    rig.engine.received.clear()
    response = await rig.client.post(url, json={"model": model, **params})
    assert response.status_code == 200, response.text
    return [message.prompt for message in rig.engine.received if isinstance(message, Generate | Classify | Embed)]


async def refusal(rig: ApiRig, url: str, model: str = BASE, **params: Any) -> tuple[str, str]:
    response = await rig.client.post(url, json={"model": model, **params})
    assert response.status_code == 400, response.text
    error = response.json()["error"]
    return error["code"], error["param"]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_prompt_keeps_its_last_tokens_behind_what_the_base_begins_with(rig: ApiRig, stream: bool) -> None:
    ids = rig.state.tokenizer.encode(TEXT)
    (prompt,) = await prompts(rig, COMPLETIONS, prompt=TEXT, truncate_prompt_tokens=5, stream=stream)
    assert prompt == [ids[0], *ids[-4:]]
    (given,) = await prompts(rig, COMPLETIONS, prompt=ids, truncate_prompt_tokens=5, stream=stream)
    assert given == ids[-5:]


async def test_a_prompt_that_is_short_enough_stays(rig: ApiRig) -> None:
    ids = rig.state.tokenizer.encode(TEXT)
    for most in (len(ids), 10_000, -1):
        assert await prompts(rig, COMPLETIONS, prompt=[TEXT, "a"], truncate_prompt_tokens=most) == [
            ids,
            rig.state.tokenizer.encode("a"),
        ]


async def test_minus_one_keeps_what_fits_beside_the_completion(rig: ApiRig) -> None:
    context = 256
    for max_tokens in (1, 200):
        (prompt,) = await prompts(rig, COMPLETIONS, prompt=TEXT * 100, max_tokens=max_tokens, truncate_prompt_tokens=-1)
        assert len(prompt) == context - max_tokens
    assert await refusal(rig, COMPLETIONS, prompt=TEXT * 100) == ("context_length_exceeded", "prompt")


async def test_a_chat_is_cut_as_the_template_wrote_it(rig: ApiRig) -> None:
    messages = [{"role": "user", "content": TEXT}] * 3
    whole = rig.encode(f"[{TEXT}]" * 3)
    (prompt,) = await prompts(rig, CHAT, messages=messages, truncate_prompt_tokens=7)
    assert prompt == whole[-7:]
    long = [{"role": "user", "content": TEXT}] * 60  # by a worker
    (prompt,) = await prompts(rig, CHAT, messages=long, truncate_prompt_tokens=-1, max_tokens=6)
    assert prompt == rig.encode(f"[{TEXT}]" * 60)[-250:]


@pytest.mark.parametrize(("url", "model"), [(CLASSIFY, "judge"), (EMBEDDINGS, BASE)])
async def test_texts_without_a_completion_keep_their_first_tokens(rig: ApiRig, url: str, model: str) -> None:
    ids = rig.state.tokenizer.encode(TEXT)
    cut = await prompts(rig, url, model, input=[TEXT, "a"], truncate_prompt_tokens=4)
    assert cut == [ids[:4], rig.state.tokenizer.encode("a")]
    assert await prompts(rig, url, model, input=ids, truncate_prompt_tokens=4) == [ids[:4]]
    (all_that_fits,) = await prompts(rig, url, model, input=TEXT * 100, truncate_prompt_tokens=-1)
    assert len(all_that_fits) == 256


async def test_an_adapters_added_tokens_count_as_one_each(rig: ApiRig) -> None:
    first = rig.state.base.shape.vocab_size
    text = "a fox <subject> over<object>"
    (whole,) = await prompts(rig, COMPLETIONS, "odd", prompt=text)
    (prompt,) = await prompts(rig, COMPLETIONS, "odd", prompt=text, truncate_prompt_tokens=3)
    assert prompt == [whole[0], *whole[-2:]]
    assert prompt[-1] == first + 1
    (prompt,) = await prompts(rig, CLASSIFY, "judge", input="<subject> over a fox", truncate_prompt_tokens=3)
    assert prompt.count(first) == 1
    assert len(prompt) == 3


@pytest.mark.parametrize(("url", "model", "name"), [(COMPLETIONS, BASE, "prompt"), (CLASSIFY, "judge", "input")])
async def test_a_large_body_is_cut_like_a_small_one(rig: ApiRig, url: str, model: str, name: str) -> None:
    """It is read by a worker, which returns no more ids than the context has."""
    ids = [5 + place % 200 for place in range(20_000)]
    for most in (3, -1):
        (prompt,) = await prompts(rig, url, model, **{name: ids, "truncate_prompt_tokens": most})
        length = 3 if most == 3 else 240 if url == COMPLETIONS else 256
        assert prompt == (ids[-length:] if url == COMPLETIONS else ids[:length])


async def test_the_echo_is_what_was_kept(rig: ApiRig) -> None:
    rig.says("a")
    body = {"model": BASE, "prompt": TEXT, "echo": True, "logprobs": 0, "truncate_prompt_tokens": 4, "max_tokens": 9}
    response = await rig.client.post(COMPLETIONS, json=body)
    (choice,) = response.json()["choices"]
    kept = rig.engine.of(Generate)[-1].prompt
    assert choice["text"].startswith(rig.state.tokenizer.decode(kept))
    assert choice["text"] != TEXT
    assert len(choice["logprobs"]["tokens"]) == 4 + len(rig.engine.reply)
    streamed = await rig.client.post(COMPLETIONS, json={**body, "stream": True})
    assert "".join(c["text"] for e in events(streamed.text)[:-1] for c in e["choices"]) == choice["text"]


@pytest.mark.parametrize("most", [0, -2, 1.5, "5", True])
async def test_other_values_are_refused(rig: ApiRig, most: object) -> None:
    for url, model, given in ((COMPLETIONS, BASE, "prompt"), (CLASSIFY, "judge", "input"), (EMBEDDINGS, BASE, "input")):
        told = await refusal(rig, url, model, **{given: "x", "truncate_prompt_tokens": most})
        assert told == ("invalid_request_error", "truncate_prompt_tokens")


async def test_a_length_that_leaves_no_text_is_refused(rig: ApiRig) -> None:
    told = await refusal(rig, COMPLETIONS, prompt=TEXT, truncate_prompt_tokens=1)
    assert told == ("invalid_request_error", "truncate_prompt_tokens")
    assert await prompts(rig, COMPLETIONS, prompt=[5, 6], truncate_prompt_tokens=1) == [[6]]
