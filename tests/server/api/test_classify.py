import asyncio
from typing import Any

import pytest

from harness.server.api_rig import ApiRig
from headmix_adapters.config import Problem
from headmix_server.core.messages import Abort, Classified, Classify, Failed, ToEngine

URL = "/v1/classify"
LABELS = ("bad", "good", "odd")


async def ask(rig: ApiRig, text: str | list[str] = "Hello") -> dict[str, Any]:
    response = await rig.client.post(URL, json={"model": "tone", "input": text})
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


async def test_a_text_gets_its_most_probable_label_and_every_probability(rig: ApiRig) -> None:
    version = rig.publish("tone", labels=LABELS)
    rig.engine.probs = [0.25, 0.5, 0.25]
    response = await rig.client.post(URL, json={"model": "tone", "input": "Hello"})
    answer = response.json()
    tokens = len(rig.state.tokenizer.encode("Hello"))
    assert answer["data"] == [{"index": 0, "label": "good", "probs": [0.25, 0.5, 0.25], "num_classes": 3}]
    assert answer["usage"] == {"prompt_tokens": tokens, "completion_tokens": 0, "total_tokens": tokens}
    assert (answer["object"], answer["model"]) == ("list", "tone")
    assert response.headers["x-headmix-adapter"] == f"tone@1 {version.digest}"
    assert rig.engine.of(Classify)[0].adapter == rig.state.library.ref(version)


async def test_texts_come_back_in_the_order_they_were_sent(rig: ApiRig) -> None:
    rig.publish("tone", labels=LABELS)
    rig.engine.answering = False
    texts = ["The quick", "brown fox", "jumps"]
    task = asyncio.create_task(ask(rig, texts))
    requests = await rig.engine.expect(Classify, 3)
    assert [rig.state.tokenizer.decode(request.prompt) for request in requests] == texts
    scores = {request.request_id: [0.0, 0.0, 0.0] for request in requests}
    for place, request in enumerate(requests):
        scores[request.request_id][place] = 1.0
    for request_id, probs in reversed(scores.items()):
        await rig.engine.send(Classified(request_id=request_id, probs=probs))
    assert [entry["label"] for entry in (await task)["data"]] == list(LABELS)


@pytest.mark.parametrize(
    ("problem", "labels", "probs", "expected"),
    [
        ("multi_label", LABELS, [0.5, 0.9, 0.1], {"label": "good", "labels": ["bad", "good"], "num_classes": 3}),
        ("multi_label", LABELS, [0.1, 0.2, 0.3], {"label": "odd", "labels": [], "num_classes": 3}),
        ("regression", ("score",), [-3.5], {"label": "score", "num_classes": 1}),
    ],
)
async def test_heads_of_other_kinds_answer_in_the_same_shape(
    rig: ApiRig, problem: Problem, labels: tuple[str, ...], probs: list[float], expected: dict[str, Any]
) -> None:
    rig.publish("tone", labels=labels, problem=problem)
    rig.engine.probs = probs
    assert (await ask(rig))["data"] == [{"index": 0, "probs": probs, **expected}]


async def test_one_text_that_fails_ends_the_others(rig: ApiRig) -> None:
    rig.publish("tone", labels=LABELS)

    def fail_the_second(message: ToEngine) -> list[Failed]:
        if isinstance(message, Classify) and message.request_id.endswith("-1"):
            return [Failed(request_id=message.request_id, code="model_not_found", message="its file is missing")]
        return []

    rig.engine.answer = fail_the_second
    response = await rig.client.post(URL, json={"model": "tone", "input": ["a", "b", "c"]})
    assert (response.status_code, response.json()["error"]["code"]) == (404, "model_not_found")
    assert {m.request_id.rpartition("-")[2] for m in await rig.engine.expect(Abort, 2)} == {"0", "2"}


async def test_a_client_that_leaves_aborts_every_text(rig: ApiRig) -> None:
    rig.publish("tone", labels=LABELS)
    rig.engine.answering = False
    task = asyncio.create_task(rig.client.post(URL, json={"model": "tone", "input": ["a", "b"]}))
    await rig.engine.expect(Classify, 2)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert len(await rig.engine.aborted()) == 2


async def test_scores_for_another_number_of_labels_are_never_passed_on(rig: ApiRig) -> None:
    rig.publish("tone", labels=LABELS)
    rig.engine.probs = [0.5, 0.5]
    response = await rig.client.post(URL, json={"model": "tone", "input": "a"})
    assert (response.status_code, response.json()["error"]["code"]) == (500, "internal_error")


@pytest.mark.parametrize("given", [[5, 6, 7], [[5, 6], [7, 8, 9]], ["x", "y"]])
async def test_texts_may_be_token_ids(rig: ApiRig, given: list[Any]) -> None:
    rig.publish("tone", labels=("bad", "good"))
    rig.engine.probs = [0.25, 0.75]
    response = await rig.client.post("/v1/classify", json={"model": "tone", "input": given})
    assert response.status_code == 200, response.text
    prompts = [message.prompt for message in rig.engine.of(Classify)]
    expected = [given] if isinstance(given[0], int) else given
    if isinstance(given[0], str):
        expected = [rig.state.tokenizer.encode(text) for text in given]
    assert sorted(prompts) == sorted(expected)
    assert len(response.json()["data"]) == len(expected)
    assert response.json()["usage"]["prompt_tokens"] == sum(map(len, expected))


async def test_a_token_id_outside_the_vocabulary_is_refused(rig: ApiRig) -> None:
    rig.publish("tone", labels=("bad", "good"))
    response = await rig.client.post("/v1/classify", json={"model": "tone", "input": [10**6]})
    assert (response.status_code, response.json()["error"]["param"]) == (400, "input")
