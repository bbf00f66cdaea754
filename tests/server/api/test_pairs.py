"""/v1/rerank and /v1/score: one score for each pair, from a head with one label or as a cosine."""

import math
from typing import Any

import pytest

from harness.server.api_rig import BASE, ApiRig, api_rig
from headmix_server.core.messages import Classified, Classify, Embed, Embedded, Output, ToEngine

RERANK, SCORE = "/v1/rerank", "/v1/score"
DOCUMENTS = ["A stop here", "The quick fox", "nothing stops the river"]


def publish_judge(rig: ApiRig, **config: Any) -> None:
    rig.publish("judge", **{"labels": ("relevance",), "problem": "regression"} | config)


def scores_by_length(message: ToEngine) -> list[Output]:
    """Score a pair by its number of tokens, and embed a text at an angle of as many tenths."""
    if isinstance(message, Classify):
        return [Classified(request_id=message.request_id, probs=[float(len(message.prompt))])]
    if isinstance(message, Embed):
        angle = len(message.prompt) / 10
        return [Embedded(request_id=message.request_id, vector=[math.cos(angle), math.sin(angle)])]
    return []


async def ask(rig: ApiRig, path: str, **body: Any) -> dict[str, Any]:
    response = await rig.client.post(path, json=body)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


async def refusal(rig: ApiRig, path: str, **body: Any) -> tuple[int, str, str | None]:
    response = await rig.client.post(path, json=body)
    error = response.json()["error"]
    return response.status_code, error["code"], error["param"]


async def test_a_head_with_one_label_scores_query_and_document_together(rig: ApiRig) -> None:
    publish_judge(rig)
    rig.engine.answer = scores_by_length
    answer = await ask(rig, RERANK, model="judge", query="Who?", documents=DOCUMENTS)
    prompts = [message.prompt for message in rig.engine.of(Classify)]
    reader = rig.state.tokenizer.reader
    assert sorted(prompts) == sorted(reader.encode_pair("Who?", text).ids for text in DOCUMENTS)
    expected = sorted(enumerate(len(reader.encode_pair("Who?", text).ids) for text in DOCUMENTS), key=lambda at: -at[1])
    assert [(item["index"], item["relevance_score"]) for item in answer["results"]] == expected
    assert [item["document"]["text"] for item in answer["results"]] == [DOCUMENTS[place] for place, _ in expected]
    assert (answer["method"], answer["model"]) == ("cross-encoder", "judge")
    assert answer["usage"]["prompt_tokens"] == answer["usage"]["total_tokens"] == sum(map(len, prompts))


@pytest.mark.parametrize("model", [BASE, "poet"])
async def test_a_model_without_a_head_scores_by_the_cosine_of_embeddings(rig: ApiRig, model: str) -> None:
    version = rig.publish("poet")
    rig.engine.answer = scores_by_length
    answer = await ask(rig, RERANK, model=model, query="Who?", documents=DOCUMENTS)
    lengths = [len(rig.state.tokenizer.encode(text)) for text in ("Who?", *DOCUMENTS)]
    cosines = [math.cos((length - lengths[0]) / 10) for length in lengths[1:]]
    assert answer["method"] == "cosine"
    assert {item["index"]: item["relevance_score"] for item in answer["results"]} == pytest.approx(
        dict(enumerate(cosines))
    )
    assert answer["usage"]["prompt_tokens"] == sum(lengths)
    sent = rig.engine.of(Embed)
    assert len(sent) == 4  # the query once
    assert {message.adapter for message in sent} == {None if model == BASE else rig.state.library.ref(version)}
    assert all(message.params.normalize for message in sent)


async def test_only_the_best_documents_come_back_with_or_without_their_texts(rig: ApiRig) -> None:
    publish_judge(rig)
    rig.engine.answer = scores_by_length
    body: dict[str, Any] = {"model": "judge", "query": "Who?", "documents": [{"text": text} for text in DOCUMENTS]}
    whole = await ask(rig, RERANK, **body)
    best = await ask(rig, RERANK, **body, top_n=1, return_documents=False)
    del whole["results"][0]["document"]
    assert best["results"] == whole["results"][:1]
    for everything in (0, 3, 99, None):
        assert len((await ask(rig, RERANK, **body, top_n=everything))["results"]) == 3


async def test_equal_scores_stay_in_the_order_of_the_request(rig: ApiRig) -> None:
    publish_judge(rig)
    rig.engine.probs = [0.5]
    answer = await ask(rig, RERANK, model="judge", query="Who?", documents=DOCUMENTS)
    assert [item["index"] for item in answer["results"]] == [0, 1, 2]


@pytest.mark.parametrize(("path", "names"), [("/rerank", {}), ("/v2/rerank", {})])
async def test_rerank_answers_under_the_names_other_servers_have(rig: ApiRig, path: str, names: dict[str, str]) -> None:
    publish_judge(rig)
    rig.engine.probs = [0.5]
    assert (await ask(rig, path, model="judge", query="Who?", documents=["a"]))["results"]
    shown = (await rig.client.get("/metrics")).text
    assert f'route="{path}"' in shown


@pytest.mark.parametrize("path", [SCORE, "/score"])
@pytest.mark.parametrize("names", [("text_1", "text_2"), ("queries", "documents")])
async def test_pairs_are_one_text_with_each_or_as_many(rig: ApiRig, path: str, names: tuple[str, str]) -> None:
    publish_judge(rig)
    rig.engine.answer = scores_by_length
    first, second = names
    reader = rig.state.tokenizer.reader
    for firsts, seconds, pairs in (
        ("Who?", "a", [("Who?", "a")]),
        ("Who?", ["a", "a fox"], [("Who?", "a"), ("Who?", "a fox")]),
        (["Who?", "And?"], ["a", "a fox"], [("Who?", "a"), ("And?", "a fox")]),
    ):
        answer = await ask(rig, path, model="judge", **{first: firsts, second: seconds})
        expected = [float(len(reader.encode_pair(*pair).ids)) for pair in pairs]
        assert [item["score"] for item in answer["data"]] == expected
        assert [item["index"] for item in answer["data"]] == list(range(len(pairs)))
        assert (answer["object"], answer["method"]) == ("list", "cross-encoder")


@pytest.mark.parametrize("path", [RERANK, SCORE])
async def test_a_head_with_several_labels_is_refused_by_the_adapters_name(rig: ApiRig, path: str) -> None:
    rig.publish("mood", labels=("sad", "happy"))
    texts = {"query": "a", "documents": ["b"]} if path == RERANK else {"text_1": "a", "text_2": "b"}
    response = await rig.client.post(path, json={"model": "mood", **texts})
    error = response.json()["error"]
    assert (response.status_code, error["code"], error["param"]) == (400, "task_mismatch", "model")
    assert "'mood'" in error["message"]
    assert rig.engine.received == []


async def test_a_probability_of_a_single_label_is_a_score_too(rig: ApiRig) -> None:
    publish_judge(rig, problem="multi_label")
    rig.engine.probs = [0.75]
    assert (await ask(rig, SCORE, model="judge", text_1="a", text_2="b"))["data"][0]["score"] == 0.75


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        (RERANK, {"query": "a"}, "documents"),
        (RERANK, {"documents": ["a"]}, "query"),
        (RERANK, {"query": "", "documents": ["a"]}, "query"),
        (RERANK, {"query": "a", "documents": []}, "documents"),
        (RERANK, {"query": "a", "documents": [""]}, "documents"),
        (RERANK, {"query": "a", "documents": [3]}, "documents.0"),
        (RERANK, {"query": "a", "documents": [{"text": 3}]}, "documents.0.text"),
        (RERANK, {"query": "a", "documents": [{"text": "b", "title": "c"}]}, "documents.0.title"),
        (RERANK, {"query": "a", "documents": ["a"] * 257}, "documents"),
        (RERANK, {"query": "a", "documents": ["a"], "top_n": -1}, "top_n"),
        (RERANK, {"query": "a", "documents": ["a"], "max_tokens_per_doc": 8}, "max_tokens_per_doc"),
        (RERANK, {"query": "fox " * 400, "documents": ["a"]}, "documents"),
        (SCORE, {"text_1": "a"}, "text_2"),
        (SCORE, {"text_2": "a"}, "text_1"),
        (SCORE, {}, "text_1"),
        (SCORE, {"queries": "a"}, "documents"),
        (SCORE, {"text_1": "a", "documents": "b"}, "queries"),
        (SCORE, {"text_1": [], "text_2": "b"}, "text_1"),
        (SCORE, {"text_1": "a", "text_2": ["b", ""]}, "text_2"),
        (SCORE, {"text_1": ["a", "b"], "text_2": ["c", "d", "e"]}, "text_1"),
        (SCORE, {"text_1": ["a", "b"], "text_2": "c"}, "text_1"),
        (SCORE, {"text_1": "a", "text_2": ["b"] * 257}, "text_2"),
        (SCORE, {"text_1": ["b"] * 257, "text_2": "a"}, "text_1"),
    ],
)
@pytest.mark.parametrize("model", ["judge", BASE])
async def test_bad_input_is_named(rig: ApiRig, model: str, path: str, body: dict[str, Any], param: str) -> None:
    publish_judge(rig)
    status, _, named = await refusal(rig, path, model=model, **body)
    assert (status, named) == (400, param)
    assert rig.engine.received == []


async def test_a_long_query_with_many_documents_is_bounded_before_it_is_read(rig: ApiRig) -> None:
    publish_judge(rig)
    query, documents = "fox " * 10, ["a"] * 256
    most = rig.state.settings.max_body_mib << 20
    assert len(query) * len(documents) < most
    query = "x" * (most // 256)
    response = await rig.client.post(RERANK, json={"model": "judge", "query": query, "documents": documents})
    error = response.json()["error"]
    assert (response.status_code, error["param"]) == (400, "documents")
    assert f"at most {most}" in error["message"]
    assert rig.engine.received == []


async def test_long_texts_are_encoded_by_a_worker_into_the_same_tokens(rig: ApiRig) -> None:
    publish_judge(rig)
    rig.engine.probs = [0.5]
    documents = ["The quick brown fox jumps over the lazy dog. " * 10] * 6  # together too many for the event loop
    await ask(rig, RERANK, model="judge", query="Who?", documents=documents)
    expected = rig.state.tokenizer.reader.encode_pair("Who?", documents[0])
    assert [message.prompt for message in rig.engine.of(Classify)] == [expected.ids] * 6


async def test_an_adapters_own_tokens_are_found_in_both_texts(rig: ApiRig) -> None:
    publish_judge(rig, added_tokens=("<mark>",))
    rig.engine.probs = [0.5]
    await ask(rig, SCORE, model="judge", text_1="A <mark>", text_2="fox <mark>")
    (message,) = rig.engine.of(Classify)
    assert message.prompt.count(rig.state.base.shape.vocab_size) == 2


async def test_pairs_count_against_the_tenants_tokens(rig: ApiRig) -> None:
    publish_judge(rig)
    rig.state.limits.change("tenant", {"tokens_per_request": 20}, actor="test")
    body = {"model": "judge", "query": "a fox", "documents": ["b"] * 20}
    assert await refusal(rig, RERANK, **body) == (400, "invalid_request_error", "documents")


async def test_large_bodies_are_read_like_small_ones(base_folder: Any, tmp_path: Any) -> None:
    async with api_rig(base_folder, tmp_path) as rig:
        publish_judge(rig)
        rig.engine.probs = [0.5]
        documents: list[Any] = [{"text": "fox " * 30}, *["a dog " * 20] * 200]
        answer = await ask(rig, RERANK, model="judge", query="Who?", documents=documents)
        assert len(answer["results"]) == 201
        status, _, param = await refusal(rig, RERANK, model="judge", query="a", documents=[*documents, 3])
        assert (status, param) == (400, "documents.201")
