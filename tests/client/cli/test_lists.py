"""`headmix classify`, `embed`, `models` and `health`, and how lists are printed."""

import json

import pytest

from headmix.cli.output import size
from tests.client.cli.conftest import Run
from tests.client.fake_server import FakeServer, Reply
from tests.client.wire import ADAPTER_MODEL, BASE_MODEL, CLASSIFICATION, DIGEST, EMBEDDINGS, RANKING, TOKENS, listing


def test_classify_prints_each_text_with_its_label(server: FakeServer, run: Run) -> None:
    server.script("POST", "/v1/classify", Reply.of(CLASSIFICATION))
    done = run("classify", "fine", "awful [red]", "-m", "mood")
    lines = [line.split() for line in done.stdout.splitlines()]
    assert ["good", "0.9000", "fine"] in lines
    assert ["bad", "0.8000", "awful", "[red]"] in lines


def test_classify_as_json_is_the_whole_answer(server: FakeServer, run: Run) -> None:
    server.script("POST", "/v1/classify", Reply.of(CLASSIFICATION))
    answer = json.loads(run("classify", "fine", "awful", "-m", "mood", "--json").stdout)
    assert [item["probs"] for item in answer["data"]] == [[0.1, 0.9], [0.8, 0.2]]


def test_embed_prints_a_vector_a_line(server: FakeServer, run: Run) -> None:
    server.script("POST", "/v1/embeddings", Reply.of(EMBEDDINGS))
    done = run("embed", "fine", "awful", "-m", "small", "--pooling", "last", "--raw")
    assert [json.loads(line) for line in done.stdout.splitlines()] == [[0.5, -0.25], [1.0, 2.0]]
    sent = server.last.json
    assert isinstance(sent, dict)
    assert (sent["input"], sent["pooling"], sent["normalize"]) == (["fine", "awful"], "last", False)
    whole = json.loads(run("embed", "fine", "-m", "small", "--json").stdout)
    assert whole["data"][0]["embedding"] == [0.5, -0.25]


def test_rerank_prints_the_texts_the_best_first(server: FakeServer, run: Run) -> None:
    server.script("POST", "/v1/rerank", Reply.of(RANKING))
    done = run("rerank", "Who?", "a sparrow", "a stone", "-m", "judge", "--top-n", "2")
    lines = [line.split() for line in done.stdout.splitlines()]
    assert ["cross-encoder", "place", "text"] in lines
    assert lines.index(["0.7500", "1", "a", "stone"]) < lines.index(["-0.5000", "0", "a", "sparrow"])
    sent = server.last.json
    assert isinstance(sent, dict)
    assert (sent["query"], sent["documents"], sent["top_n"]) == ("Who?", ["a sparrow", "a stone"], 2)
    whole = json.loads(run("rerank", "Who?", "a sparrow", "a stone", "-m", "judge", "--json").stdout)
    assert [item["index"] for item in whole["results"]] == [1, 0]


def test_tokenize_prints_a_token_a_line_and_how_many(server: FakeServer, run: Run) -> None:
    server.script("POST", "/tokenize", Reply.of(TOKENS))
    lines = [line.split() for line in run("tokenize", "Hi", "-m", "tone", "--bare").stdout.splitlines()]
    assert ["72", "H"] in lines
    assert lines[-1] == ["2", "of", "256", "tokens"]
    sent = server.last.json
    assert isinstance(sent, dict)
    assert (sent["prompt"], sent["add_special_tokens"]) == ("Hi", False)


def test_models_are_listed_for_people_and_for_programs(server: FakeServer, run: Run) -> None:
    server.script("GET", "/v1/models", Reply.of(listing(BASE_MODEL, ADAPTER_MODEL)))
    table = run("models").stdout
    assert "small" in table
    assert DIGEST.removeprefix("sha256:")[:12] in table
    assert [model["id"] for model in json.loads(run("models", "--json").stdout)] == ["small", "tone"]


def test_health_says_both_and_fails_while_not_ready(server: FakeServer, run: Run) -> None:
    server.script("GET", "/healthz", Reply.of({"status": "ok"}))
    server.script("GET", "/readyz", Reply.of({"status": "starting", "reason": "loading"}, 503))
    done = run("health")
    assert (done.exit_code, done.stdout) == (1, "alive: ok\nready: starting (loading)\n")
    server.script("GET", "/readyz", Reply.of({"status": "ready"}))
    assert run("health").exit_code == 0


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (8_036_352, "8.036 MB"), (5_000_000_000_000, "5000 GB")]
)
def test_sizes_are_readable(count: int, text: str) -> None:
    assert size(count) == text
