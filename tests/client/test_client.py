"""What each operation sends and returns. Both clients are made from the same operations, so testing one is enough."""

import hashlib
import inspect
import json
from pathlib import Path

import pytest

from headmix import (
    AdapterRef,
    AsyncClient,
    Canary,
    ChatMessage,
    Client,
    DigestMismatchError,
    InvalidArgumentError,
    InvalidResponseError,
    NotFoundError,
    PermissionDeniedError,
    ScaledAdapter,
)
from headmix.calls import AsyncCall, AsyncStreamCall, Call, StreamCall
from tests.client.fake_server import FakeServer, Reply
from tests.client.wire import (
    ADAPTER,
    ADAPTER_HEADER,
    ADAPTER_MODEL,
    BASE_MODEL,
    BATCH,
    CHAT,
    CLASSIFICATION,
    COMPLETION,
    DELETED,
    DIGEST,
    EMBEDDINGS,
    MODERATION,
    RANKING,
    SCORES,
    SHARING,
    TOKENS,
    chat_chunk,
    completion_chunk,
    listing,
)


def test_complete(server: FakeServer, client: Client) -> None:
    server.script("POST", "/v1/completions", Reply.of(COMPLETION, x_request_id="r-1", x_headmix_adapter=ADAPTER_HEADER))
    answer = client.complete("hello", model="tone", max_tokens=2, temperature=0.0, stop=["\n"], seed=1, echo=None)
    assert server.last.json == {
        "model": "tone",
        "prompt": "hello",
        "max_tokens": 2,
        "temperature": 0.0,
        "stop": ["\n"],
        "seed": 1,
    }
    assert (answer.text, answer.choices[0].finish_reason) == (" world", "stop")
    assert answer.usage is not None
    assert answer.usage.total_tokens == 5
    assert (answer.request_id, answer.adapter) == ("r-1", AdapterRef("tone", 3, DIGEST))


def test_chat_takes_turns_in_every_form(server: FakeServer, client: Client) -> None:
    server.script("POST", "/v1/chat/completions", Reply.of(CHAT))
    turn = {"role": "user", "content": "Hello"}
    for messages in ("Hello", [turn], [ChatMessage(role="user", content="Hello")]):
        assert client.chat(messages, model="tone", top_logprobs=2, logprobs=True).text == "Hi."
        assert server.last.json == {"model": "tone", "messages": [turn], "top_logprobs": 2, "logprobs": True}


def test_an_unknown_parameter_is_a_type_error_as_in_any_call(server: FakeServer, client: Client) -> None:
    with pytest.raises(TypeError, match="temprature"):
        client.complete("x", model="tone", temprature=1.0)  # type: ignore[call-arg] # the mistake under test
    assert server.received == []


def test_classify(server: FakeServer, client: Client) -> None:
    server.script("POST", "/v1/classify", Reply.of(CLASSIFICATION))
    answer = client.classify(["fine", "awful"], model="mood")
    assert server.last.json == {"model": "mood", "input": ["fine", "awful"]}
    assert [item.label for item in answer.data] == ["good", "bad"]
    assert answer.label == "good"
    assert answer.data[0].probs == (0.1, 0.9)


def test_embed(server: FakeServer, client: Client) -> None:
    server.script("POST", "/v1/embeddings", Reply.of(EMBEDDINGS))
    answer = client.embed(["fine", "awful"], model="small")
    asked = {"model": "small", "input": ["fine", "awful"], "encoding_format": "base64"}
    assert server.last.json == asked
    assert answer.vectors == ((0.5, -0.25), (1.0, 2.0))
    assert answer.vector == (0.5, -0.25)
    client.embed([5, 6], model="small", pooling="cls", normalize=False)
    assert server.last.json == asked | {"input": [5, 6], "pooling": "cls", "normalize": False}


def test_rerank_and_score(server: FakeServer, client: Client) -> None:
    server.script("POST", "/v1/rerank", Reply.of(RANKING))
    ranking = client.rerank("Who?", ["a sparrow", {"text": "a stone"}], model="judge", top_n=2)
    asked = {"model": "judge", "query": "Who?", "documents": ["a sparrow", {"text": "a stone"}], "top_n": 2}
    assert server.last.json == asked
    assert (ranking.order, ranking.method) == ((1, 0), "cross-encoder")
    assert ranking.results[0].document is not None
    assert ranking.results[0].document.text == "a stone"
    server.script("POST", "/v1/score", Reply.of(SCORES))
    scores = client.score("Who?", ["a sparrow", "a stone"], model="judge", split_special_tokens=True)
    asked = {"model": "judge", "text_1": "Who?", "text_2": ["a sparrow", "a stone"], "split_special_tokens": True}
    assert server.last.json == asked
    assert (scores.scores, scores.method) == ((0.5, 0.25), "cosine")


def test_moderate(server: FakeServer, client: Client) -> None:
    server.script("POST", "/v1/moderations", Reply.of(MODERATION))
    answer = client.moderate(["fine", "awful"])
    assert server.last.json == {"input": ["fine", "awful"]}
    assert (answer.flagged, [item.flagged for item in answer.results]) == (True, [False, True])
    assert answer.results[1].category_scores == {"hate": 0.9}
    client.moderate("fine", model="mine")
    assert server.last.json == {"input": "fine", "model": "mine"}


def test_tokenize_and_back(server: FakeServer, client: Client) -> None:
    server.script("POST", "/tokenize", Reply.of(TOKENS))
    answer = client.tokenize("Hi", model="tone", return_token_strings=True)
    assert server.last.json == {"model": "tone", "prompt": "Hi", "return_token_strings": True}
    assert (answer.tokens, answer.count, answer.token_strs) == ((72, 105), 2, ("H", "i"))
    client.tokenize(messages="Hi", model="tone")
    assert server.last.json == {"model": "tone", "messages": [{"role": "user", "content": "Hi"}]}
    server.script("POST", "/detokenize", Reply.of({"prompt": "Hi"}))
    assert client.detokenize([72, 105], model="tone").text == "Hi"
    assert server.last.json == {"model": "tone", "tokens": [72, 105]}


@pytest.mark.parametrize("packed", ["not base64", "AAAA"])
def test_a_vector_that_cannot_be_read_is_an_invalid_response(server: FakeServer, client: Client, packed: str) -> None:
    data = [{"object": "embedding", "index": 0, "embedding": packed}]
    server.script("POST", "/v1/embeddings", Reply.of(EMBEDDINGS | {"data": data}))
    with pytest.raises(InvalidResponseError):
        client.embed("fine", model="small")


def test_special_tokens_are_split_as_asked_in_every_call_that_sends_text(server: FakeServer, client: Client) -> None:
    server.script("POST", "/v1/completions", Reply.of(COMPLETION), Reply.stream(completion_chunk("a")))
    server.script("POST", "/v1/chat/completions", Reply.of(CHAT), Reply.stream(chat_chunk("a")))
    server.script("POST", "/v1/classify", Reply.of(CLASSIFICATION))
    server.script("POST", "/v1/embeddings", Reply.of(EMBEDDINGS))
    for split in (True, False):
        client.complete("a", model="m", split_special_tokens=split)
        list(client.stream.complete("a", model="m", split_special_tokens=split))
        client.chat("a", model="m", split_special_tokens=split)
        list(client.stream.chat("a", model="m", split_special_tokens=split))
        client.classify("a", model="m", split_special_tokens=split)
        client.embed("a", model="m", split_special_tokens=split)
        sent = [json.loads(request.body) for request in server.received[-6:]]
        assert [body["split_special_tokens"] for body in sent] == [split] * 6
        server.script("POST", "/v1/completions", Reply.of(COMPLETION), Reply.stream(completion_chunk("a")))
        server.script("POST", "/v1/chat/completions", Reply.of(CHAT), Reply.stream(chat_chunk("a")))
    client.classify("a", model="m")
    assert server.last.json == {"model": "m", "input": "a"}


def test_every_parameter_of_a_generation_is_sent_as_it_is_given(server: FakeServer, client: Client) -> None:
    shared = {"max_completion_tokens": 4, "skip_special_tokens": False, "truncate_prompt_tokens": -1, "min_tokens": 2}
    completion = {**shared, "best_of": 3, "suffix": " end"}
    chat = {**shared, "continue_final_message": True, "add_generation_prompt": False, "chat_template_kwargs": {"a": 1}}
    server.script("POST", "/v1/completions", Reply.of(COMPLETION))
    client.complete("a", model="m", **completion)  # type: ignore[arg-type] # of several types
    assert server.last.json == {"model": "m", "prompt": "a", **completion}
    server.script("POST", "/v1/chat/completions", Reply.of(CHAT))
    client.chat("a", model="m", **chat)  # type: ignore[arg-type] # of several types
    assert server.last.json == {"model": "m", "messages": [{"role": "user", "content": "a"}], **chat}


def test_texts_to_classify_and_to_embed_may_be_token_ids_and_be_cut(server: FakeServer, client: Client) -> None:
    server.script("POST", "/v1/classify", Reply.of(CLASSIFICATION))
    server.script("POST", "/v1/embeddings", Reply.of(EMBEDDINGS))
    for ask in (client.classify, client.embed):
        ask([[5, 6], [7]], model="m", truncate_prompt_tokens=4)
        assert isinstance(server.last.json, dict)
        assert (server.last.json["input"], server.last.json["truncate_prompt_tokens"]) == ([[5, 6], [7]], 4)


def test_models(server: FakeServer, client: Client) -> None:
    server.script("GET", "/v1/models", Reply.of(listing(BASE_MODEL, ADAPTER_MODEL), x_request_id="r-2"))
    base, adapter = client.models.list()
    assert (base.parent, adapter.parent, adapter.version, adapter.resident) == (None, "small", 3, "device")
    assert base.request_id == "r-2"
    server.script("GET", "/v1/models/tone%403", Reply.of(ADAPTER_MODEL))
    assert client.models.get("tone@3").digest == DIGEST


def test_the_base_is_the_model_without_a_parent(server: FakeServer, client: Client) -> None:
    server.script("GET", "/v1/models", Reply.of(listing(ADAPTER_MODEL, BASE_MODEL)), Reply.of(listing(ADAPTER_MODEL)))
    assert client.models.base().id == "small"
    with pytest.raises(InvalidResponseError, match="no base"):
        client.models.base()


def test_push_sends_the_file_and_says_whether_it_is_news(server: FakeServer, client: Client, tmp_path: Path) -> None:
    path = tmp_path / "tone.safetensors"
    path.write_bytes(b"artifact")
    server.script("POST", "/v1/adapters", Reply.of(ADAPTER, 201), Reply.of(ADAPTER, 200))
    seen: list[tuple[int, int | None]] = []
    pushed = client.adapters.push("tone", path, progress=lambda done, total: seen.append((done, total)))
    assert (pushed.name, pushed.version, pushed.new_version) == ("tone", 3, True)
    assert seen == [(8, 8)]
    body = server.last.body
    assert b'name="name"\r\n\r\ntone\r\n' in body
    assert b"artifact" in body
    assert b"allow_base_mismatch" not in body
    assert not client.adapters.push("tone", b"artifact", allow_base_mismatch=True).new_version
    assert b'name="allow_base_mismatch"\r\n\r\ntrue\r\n' in server.last.body


def test_adapters_are_listed_and_found(server: FakeServer, client: Client) -> None:
    server.script("GET", "/v1/adapters?limit=1000", Reply.of(listing(ADAPTER)))
    server.script("GET", "/v1/adapters/tone", Reply.of(ADAPTER))
    server.script("GET", "/v1/adapters/tone/versions?limit=1000", Reply.of(listing(ADAPTER, ADAPTER | {"version": 2})))
    assert [adapter.name for adapter in client.adapters.list()] == ["tone"]
    assert client.adapters.get("tone").sites == {"q": {"head": {"rank": 3}}}
    assert [version.version for version in client.adapters.versions("tone")] == [3, 2]


def test_adapters_are_managed(server: FakeServer, client: Client) -> None:
    server.script("DELETE", "/v1/adapters/tone", Reply.of(DELETED))
    server.script("POST", "/v1/adapters/tone/rollback", Reply.of(ADAPTER))
    server.script("POST", "/v1/adapters/tone/load", Reply.of(ADAPTER))
    assert client.adapters.remove("tone").versions == (1, 2, 3)
    assert client.adapters.rollback("tone").current
    assert server.last.json == {"version": None}
    assert client.adapters.rollback("tone", 2).version == 3
    assert server.last.json == {"version": 2}
    assert client.adapters.load("tone").resident == "device"


def test_adapters_are_shared_pinned_and_tried_out(server: FakeServer, client: Client) -> None:
    for method in ("GET", "PUT", "DELETE"):
        server.script(method, "/v1/adapters/tone/sharing", Reply.of(SHARING))
    trying = ADAPTER | {"pinned": True, "canary": {"version": 4, "percent": 10}}
    for method, path in (("POST", "pin"), ("DELETE", "pin"), ("PUT", "canary"), ("DELETE", "canary")):
        server.script(method, f"/v1/adapters/tone/{path}", Reply.of(trying))
    server.script("POST", "/v1/adapters/tone/canary/promote", Reply.of(ADAPTER))
    assert client.adapters.share("tone", ["acme", "zoo"]).tenants == ("acme", "zoo")
    assert server.last.json == {"tenants": ["acme", "zoo"]}
    client.adapters.share("tone", everyone=True)
    assert server.last.json == {"everyone": True}
    assert not client.adapters.sharing("tone").everyone
    assert client.adapters.unshare("tone").name == "tone"
    assert client.adapters.pin("tone").pinned
    assert client.adapters.unpin("tone").name == "tone"
    assert client.adapters.canary("tone", 4, 10).canary == Canary(version=4, percent=10)
    assert server.last.json == {"version": 4, "percent": 10}
    assert client.adapters.end_canary("tone").version == 3
    assert client.adapters.promote("tone").canary is None


@pytest.mark.parametrize(("tenants", "everyone"), [(None, False), (["acme"], True)])
def test_sharing_with_neither_or_both_is_refused_before_anything_is_sent(
    server: FakeServer, client: Client, tenants: list[str] | None, everyone: bool
) -> None:
    with pytest.raises(InvalidArgumentError):
        client.adapters.share("tone", tenants, everyone=everyone)
    assert server.received == []


def test_another_tenants_adapter_is_addressed_by_its_owner(server: FakeServer, client: Client) -> None:
    server.script("GET", "/v1/adapters/tone?owner=acme", Reply.of(ADAPTER | {"name": "acme/tone", "owner": "acme"}))
    server.script("GET", "/v1/adapters/tone%402?owner=acme", Reply.of(ADAPTER))
    server.script("POST", "/v1/adapters/tone/load?owner=acme", Reply.of(ADAPTER))
    server.script("GET", "/v1/adapters/tone/versions?limit=1000&owner=acme", Reply.of(listing(ADAPTER)))
    server.script("DELETE", "/v1/adapters/tone?owner=acme", Reply.error(403, "forbidden"))
    found = client.adapters.get("acme/tone")
    assert (found.name, found.owner) == ("acme/tone", "acme")
    assert client.adapters.get("acme/tone@2").version == 3
    assert client.adapters.load("acme/tone").resident == "device"
    assert len(client.adapters.versions("acme/tone")) == 1
    with pytest.raises(PermissionDeniedError):
        client.adapters.remove("acme/tone")


def test_a_push_beside_the_current_version_says_so(server: FakeServer, client: Client) -> None:
    server.script("POST", "/v1/adapters", Reply.of(ADAPTER, 201))
    client.adapters.push("tone", b"artifact", current=False)
    assert b'name="current"\r\n\r\nfalse\r\n' in server.last.body


def test_download_gives_the_bytes_the_server_named(server: FakeServer, client: Client, tmp_path: Path) -> None:
    digest = hashlib.sha256(b"artifact").hexdigest()
    good = Reply(200, b"artifact", {"x-headmix-adapter": f"tone@2 sha256:{digest}"})
    server.script("GET", "/v1/adapters/tone/file?version=2", good)
    server.script("GET", "/v1/adapters/tone/file", Reply(200, b"corrupt!", good.headers))
    assert client.adapters.download("tone", 2) == b"artifact"
    seen: list[tuple[int, int | None]] = []
    saved = client.adapters.save("tone", tmp_path / "a", 2, progress=lambda done, total: seen.append((done, total)))
    assert (saved.read_bytes(), seen) == (b"artifact", [(8, 8)])
    with pytest.raises(DigestMismatchError):
        client.adapters.download("tone")
    with pytest.raises(DigestMismatchError):
        client.adapters.save("tone", tmp_path / "b")
    assert list(tmp_path.iterdir()) == [saved]


def test_saving_a_missing_adapter_leaves_no_file(server: FakeServer, client: Client, tmp_path: Path) -> None:
    server.script("GET", "/v1/adapters/gone/file", Reply.error(404, "model_not_found"))
    with pytest.raises(NotFoundError):
        client.adapters.save("gone", tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_batches_are_created_listed_and_cancelled(server: FakeServer, client: Client) -> None:
    server.script("POST", "/v1/batches", Reply.of(BATCH))
    server.script("GET", "/v1/batches?limit=100", Reply.of({**listing(BATCH), "has_more": True}))
    server.script("GET", "/v1/batches?limit=100&after=batch_1", Reply.of(listing({**BATCH, "id": "batch_0"})))
    server.script("GET", "/v1/batches/batch_1", Reply.of({**BATCH, "status": "completed"}))
    server.script("POST", "/v1/batches/batch_1/cancel", Reply.of({**BATCH, "status": "cancelling"}))
    made = client.batches.create("file-1", "/v1/classify", metadata={"run": "7"}, output_expires_after=3600)
    assert server.last.json == {
        "input_file_id": "file-1",
        "endpoint": "/v1/classify",
        "completion_window": "24h",
        "metadata": {"run": "7"},
        "output_expires_after": {"anchor": "created_at", "seconds": 3600},
    }
    assert (made.has_ended, made.request_counts.total, made.usage.output_tokens) == (False, 3, 5)
    assert [batch.id for batch in client.batches.list()] == ["batch_1", "batch_0"]
    assert client.batches.get("batch_1").has_ended
    assert client.batches.cancel("batch_1").status == "cancelling"


def test_health_and_readiness_are_answers_even_when_not_ready(server: FakeServer, client: Client) -> None:
    server.script("GET", "/healthz", Reply.of({"status": "ok"}))
    starting = Reply.of({"status": "starting", "reason": "loading the base"}, 503)
    server.script("GET", "/readyz", starting, Reply.of({"status": "ready"}))
    assert client.health().status == "ok"
    before, after = client.ready(), client.ready()
    assert (before.ready, before.status, before.reason) == (False, "starting", "loading the base")
    assert after.ready
    assert len(server.received) == 3


def operations(part: type) -> dict[str, tuple[str, object]]:
    """Return the operations of one part of a client: name -> (kind, the function that builds the request)."""
    kinds = {Call: "call", AsyncCall: "call", StreamCall: "stream", AsyncStreamCall: "stream"}
    return {
        name: (kinds[type(member)], member.build)
        for name, member in vars(part).items()
        if isinstance(member, Call | AsyncCall | StreamCall | AsyncStreamCall)
    }


def test_both_clients_have_the_same_operations_with_documentation() -> None:
    with Client("http://host") as blocking:
        awaited = AsyncClient("http://host")
        names = ("stream", "models", "adapters", "batches")
        parts = [(type(getattr(blocking, name)), type(getattr(awaited, name))) for name in names]
    for one, other in [(Client, AsyncClient), *parts]:
        assert operations(one) == operations(other)
        assert operations(one)
        assert all(inspect.getdoc(build) for _, build in operations(one).values())


def test_a_method_shows_its_operations_signature() -> None:
    with Client("http://host") as client:
        assert list(inspect.signature(client.adapters.rollback).parameters) == ["name", "version"]
        assert (inspect.getdoc(client.adapters.rollback) or "").startswith("Make an earlier version current")


def test_several_adapters_go_with_each_kind_of_request(server: FakeServer, client: Client) -> None:
    adapters = [ScaledAdapter(name="tone", scale=0.7), ScaledAdapter(name="brief")]
    server.script("POST", "/v1/completions", Reply.of(COMPLETION))
    server.script("POST", "/v1/chat/completions", Reply.of(CHAT))
    server.script("POST", "/v1/classify", Reply.of(CLASSIFICATION))
    server.script("POST", "/v1/embeddings", Reply.of(EMBEDDINGS))
    for ask in (
        lambda: client.complete("x", model="tone", adapters=adapters),
        lambda: client.chat("x", model="tone", adapters=adapters),
        lambda: client.classify("x", model="tone", adapters=adapters),
        lambda: client.embed("x", model="tone", adapters=adapters),
    ):
        ask()
        body = server.last.json
        assert isinstance(body, dict)
        assert body["adapters"] == [{"name": "tone", "scale": 0.7}, {"name": "brief"}]
