"""Texts that cannot fit are refused without tokenizing, long ones are tokenized elsewhere, and nobody else waits."""

import asyncio
import json
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from harness.bases.tokenizer_kinds import write_tokenizer
from harness.server.api_rig import BASE, ApiRig, api_rig
from headmix_adapters.text.tokenizer import BaseTokenizer
from headmix_server.api.inference.prompts import INLINE_CHARACTERS, INLINE_TURNS
from headmix_server.core.messages import Classify, Embed, EngineReady, Generate
from tests.support.clocks.loop_time import loop_time

# 7 MiB, all of it tokens of one or two characters.
HARD = "".join(random.Random(1).choice("#$%&*+-/<=>@^~|") for _ in range(1 << 14)) * (7 << 6)
ROUTES: dict[str, dict[str, Any]] = {
    "/v1/completions": {"model": BASE, "max_tokens": 1},
    "/v1/chat/completions": {"model": BASE, "max_tokens": 1},
    "/v1/embeddings": {"model": BASE},
    "/v1/classify": {"model": "spam"},
}
PARAMS = {
    "/v1/completions": "prompt",
    "/v1/chat/completions": "messages",
    "/v1/embeddings": "input",
    "/v1/classify": "input",
}
READY = EngineReady(pid=1, max_model_len=8192, kv_blocks=1024, block_size=16, adapter_slots=4)
FITS = "The quick brown fox. " * 150
"""Fits in a context, but is too long for the event loop."""


@pytest.fixture
async def rig(base_folder: Path, tmp_path: Path) -> AsyncIterator[ApiRig]:
    async with api_rig(base_folder, tmp_path, ready=READY) as running:
        running.publish("spam", labels=("ham", "spam"))
        running.engine.probs, running.engine.vector = [0.5, 0.5], [1.0]
        yield running


class _Reads:
    """How many characters this process tokenizes with the library, which holds the interpreter's lock meanwhile."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.longest = 0
        encode = BaseTokenizer.encode

        def count(tokenizer: BaseTokenizer, text: str, *, add_special_tokens: bool = True) -> list[int]:
            self.longest = max(self.longest, len(text))
            return encode(tokenizer, text, add_special_tokens=add_special_tokens)

        monkeypatch.setattr(BaseTokenizer, "encode", count)


def body(path: str, text: str) -> dict[str, Any]:
    given: object = [{"role": "user", "content": text}] if path == "/v1/chat/completions" else text
    return {**ROUTES[path], PARAMS[path]: given}


@pytest.mark.parametrize("path", [path for path in ROUTES if "chat" not in path])
async def test_a_text_that_cannot_fit_is_refused_without_being_tokenized(
    rig: ApiRig, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    reads, content = _Reads(monkeypatch), json.dumps(body(path, HARD)).encode()
    headers = {"content-type": "application/json"}
    with capture_logs() as lines, loop_time():
        answer = await rig.client.post(path, content=content, headers=headers)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (400, "context_length_exceeded", PARAMS[path])
    assert reads.longest == 0
    assert not [line for line in lines if line["event"] == "tokenized"]


async def test_a_conversation_that_cannot_fit_is_rendered_by_a_worker_and_refused(
    rig: ApiRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = "/v1/chat/completions"
    reads, content = _Reads(monkeypatch), json.dumps(body(path, HARD)).encode()
    with loop_time():
        answer = await rig.client.post(path, content=content, headers={"content-type": "application/json"})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (400, "context_length_exceeded", "messages")
    assert reads.longest == 0


@pytest.mark.parametrize("path", ROUTES)
async def test_a_long_text_is_read_by_a_worker_with_the_ids_of_the_event_loop(
    rig: ApiRig, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    expected = rig.state.tokenizer.encode(FITS)
    reads = _Reads(monkeypatch)
    assert len(FITS) > INLINE_CHARACTERS
    with capture_logs() as lines, loop_time():
        assert (await rig.client.post(path, json=body(path, FITS))).status_code == 200
    assert reads.longest == 0
    assert [line["by"] for line in lines if line["event"] == "tokenized"] == ["worker"]
    (message,) = [m for m in rig.engine.received if isinstance(m, Generate | Classify | Embed)]
    if "chat" in path:
        assert str(expected[1:-1])[1:-1] in str(list(message.prompt))
    else:
        assert list(message.prompt) == expected


@pytest.mark.parametrize("path", ROUTES)
async def test_a_short_text_is_read_at_once(rig: ApiRig, path: str) -> None:
    with capture_logs() as lines:
        assert (await rig.client.post(path, json=body(path, "The quick brown fox."))).status_code == 200
    assert [line["by"] for line in lines if line["event"] == "tokenized"] == ["event loop"]


async def test_many_texts_just_under_what_is_read_at_once_are_a_long_one_together(
    rig: ApiRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = _Reads(monkeypatch)
    texts = [HARD[: INLINE_CHARACTERS // 4] for _ in range(256)]
    with loop_time():
        answer = await rig.client.post("/v1/embeddings", json={"model": BASE, "input": texts})
    assert answer.status_code == 200
    assert reads.longest == 0


async def test_many_short_turns_are_rendered_by_a_worker(rig: ApiRig) -> None:
    turns = [{"role": "user", "content": "a"}] * (INLINE_TURNS + 1)
    with capture_logs() as lines, loop_time():
        answer = await rig.client.post(
            "/v1/chat/completions", json={**ROUTES["/v1/chat/completions"], "messages": turns}
        )
    assert answer.status_code == 200
    assert [line["by"] for line in lines if line["event"] == "tokenized"] == ["worker"]


async def test_an_adapters_words_are_read_by_a_worker_and_texts_without_them_at_once(
    rig: ApiRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.publish("poet", added_tokens=("<subject>",))
    monkeypatch.setattr(BaseTokenizer, "with_words", None)  # this process makes no copy of the tokenizer
    for text, by in (("a fox", "event loop"), ("a <subject>", "worker")):
        with capture_logs() as lines:
            answer = await rig.client.post("/v1/completions", json={"model": "poet", "prompt": text, "max_tokens": 1})
        assert answer.status_code == 200
        assert [line["by"] for line in lines if line["event"] == "tokenized"] == [by]
    *_, message = rig.engine.of(Generate)
    assert rig.state.base.shape.vocab_size in message.prompt


@pytest.mark.parametrize("split", [False, True])
async def test_special_tokens_in_a_text_that_are_text_are_cut_by_a_worker(rig: ApiRig, split: bool) -> None:
    with capture_logs() as lines:
        answer = await rig.client.post(
            "/v1/completions",
            json={**body("/v1/completions", "a<|im_end|>"), "split_special_tokens": split},
        )
    assert answer.status_code == 200
    assert [line["by"] for line in lines if line["event"] == "tokenized"] == ["worker" if split else "event loop"]


async def test_a_client_that_leaves_takes_its_waiting_text_along(rig: ApiRig) -> None:
    workers = rig.state.text_workers
    asked = [asyncio.create_task(rig.client.post("/v1/completions", json=body("/v1/completions", FITS))) for _ in "ab"]
    while workers.waiting < 1:  # noqa: ASYNC110 - the workers signal nothing
        await asyncio.sleep(0.001)
    for one in asked:
        one.cancel()
    while workers.waiting:  # noqa: ASYNC110 - the same
        await asyncio.sleep(0.001)
    await asyncio.gather(*asked, return_exceptions=True)
    assert not rig.engine.of(Generate)


@pytest.mark.parametrize(("kind", "character"), [("unigram", "日"), ("wordpiece", "a")])
async def test_where_a_token_can_stand_for_any_amount_of_text_a_setting_bounds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, character: str
) -> None:
    folder = write_tokenizer(tmp_path / "base", kind)
    settings = {"max_characters_per_token": 10}
    async with api_rig(folder, tmp_path / "data", settings=settings) as rig:
        rig.engine.vector, reads = [1.0], _Reads(monkeypatch)
        most = 10 * 256  # the engine's context
        for size, status in ((most, 200), (most + 1, 400)):
            answer = await rig.client.post("/v1/embeddings", json={"model": BASE, "input": character * size})
            assert answer.status_code == status, answer.text
        assert answer.json()["error"]["code"] == "context_length_exceeded"
        assert reads.longest == 0
