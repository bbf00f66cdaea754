"""An adapter's added tokens in the API: in the text and ids of its own requests only."""

from typing import Any

import pytest

from harness.server.api_rig import BASE, ApiRig
from headmix_server.core.messages import Classify, Embed, Generate
from tests.support.sse import events

WORDS = ("<subject>", "naïve")
TEXT = "A <subject> fox"


@pytest.fixture
def first(rig: ApiRig) -> int:
    """The id of the first added word; adapter `odd` adds `WORDS`, `plain` nothing."""
    rig.publish("odd", added_tokens=WORDS)
    rig.publish("plain")
    return rig.state.base.shape.vocab_size


async def complete(rig: ApiRig, model: str, **body: Any) -> dict[str, Any]:
    response = await rig.client.post("/v1/completions", json={"model": model, "prompt": TEXT, **body})
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


async def test_only_the_adapters_own_requests_read_its_words(rig: ApiRig, first: int) -> None:
    for model in ("odd", "plain", BASE):
        await complete(rig, model)
    odd, plain, base = (message.prompt for message in rig.engine.of(Generate))
    assert odd == [*rig.encode("A "), first, *rig.encode(" fox")]
    assert plain == base == rig.encode(TEXT)


async def test_chats_classifications_and_embeddings_read_them_too(rig: ApiRig, first: int) -> None:
    rig.publish("judge", added_tokens=WORDS, labels=("a", "b"))
    rig.engine.probs = [0.5, 0.5]
    chat = {"model": "odd", "messages": [{"role": "user", "content": TEXT}]}
    await rig.client.post("/v1/chat/completions", json=chat)
    await rig.client.post("/v1/classify", json={"model": "judge", "input": TEXT})
    await rig.client.post("/v1/embeddings", json={"model": "odd", "input": TEXT})
    prompts = [message.prompt for message in rig.engine.received if isinstance(message, Generate | Classify | Embed)]
    assert [prompt.count(first) for prompt in prompts] == [1, 1, 1]


async def test_they_are_shown_in_text_logprobs_and_streams(rig: ApiRig, first: int) -> None:
    rig.engine.reply = [*rig.encode("The "), first + 1, first, *rig.encode(" fox")]
    answer = await complete(rig, "odd", logprobs=2, echo=True, max_tokens=50)
    (choice,) = answer["choices"]
    assert choice["text"] == TEXT + "The naïve<subject> fox"
    shown = choice["logprobs"]
    for word in WORDS:
        places = [at for at, token in zip(shown["text_offset"], shown["tokens"], strict=True) if token == word]
        assert all(choice["text"][at:].startswith(word) for at in places)
        assert places
    response = await rig.client.post(
        "/v1/completions", json={"model": "odd", "prompt": "x", "stream": True, "max_tokens": 50}
    )
    said = "".join(event["choices"][0]["text"] for event in events(response.text)[:-1])
    assert said == "The naïve<subject> fox"


async def test_stop_strings_may_be_added_words(rig: ApiRig, first: int) -> None:
    rig.engine.reply = [*rig.encode("The"), first, *rig.encode(" fox")]
    answer = await complete(rig, "odd", stop=WORDS[0], max_tokens=50)
    assert (answer["choices"][0]["text"], answer["choices"][0]["finish_reason"]) == ("The", "stop")


@pytest.mark.parametrize(
    ("model", "beyond", "status"), [("odd", 1, 200), ("odd", 2, 400), ("plain", 0, 400), (BASE, 0, 400)]
)
@pytest.mark.parametrize(("path", "param"), [("completions", "prompt"), ("embeddings", "input")])
async def test_ids_beyond_what_the_adapter_has_are_refused(
    rig: ApiRig, first: int, model: str, beyond: int, status: int, path: str, param: str
) -> None:
    response = await rig.client.post(f"/v1/{path}", json={"model": model, param: [5, first + beyond]})
    assert response.status_code == status
    if status == 400:
        assert response.json()["error"]["param"] == param


async def test_an_adapter_made_for_another_vocabulary_is_an_internal_error_and_not_the_base(rig: ApiRig) -> None:
    rig.publish("old", added_tokens=("a",))
    response = await rig.client.post("/v1/completions", json={"model": "old", "prompt": "x"})
    assert (response.status_code, response.json()["error"]["code"]) == (500, "internal_error")
