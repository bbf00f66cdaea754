"""What the command line says below an error."""

import pytest

from headmix.cli.hints import suggest
from tests.client.cli.conftest import Run
from tests.client.fake_server import FakeServer, Reply
from tests.client.wire import ADAPTER_MODEL, BASE_MODEL, listing

NAMES = ["smollm2-135m-instruct", "spam", "kingjames", "dictionary", "zoo/poet"]


@pytest.mark.parametrize(
    ("asked", "hint"),
    [
        ("spm", "did you mean spam?"),
        ("kingjame", "did you mean kingjames?"),
        ("poet", "did you mean zoo/poet?"),
        ("smollm2-135m", "did you mean smollm2-135m-instruct?"),
        ("spam@9", "spam has no version 9 that can be named; `headmix adapters versions spam` lists them"),
        ("spm@2", "did you mean spam?"),
        ("xyz", f"you can ask {', '.join(NAMES)}"),
    ],
)
def test_a_name_that_leads_nowhere_is_compared_with_those_that_lead_somewhere(asked: str, hint: str) -> None:
    assert suggest(asked, NAMES) == hint


def test_many_names_are_not_listed() -> None:
    assert suggest("xyz", [f"adapter-{number}" for number in range(100)]) == "`headmix models` lists what you can ask"


@pytest.mark.parametrize(
    ("command", "route"),
    [
        (("chat", "Hello", "-m", "tne"), ("POST", "/v1/chat/completions")),
        (("complete", "Once", "-m", "tne"), ("POST", "/v1/completions")),
        (("classify", "fine", "-m", "tne"), ("POST", "/v1/classify")),
        (("embed", "fine", "-m", "tne"), ("POST", "/v1/embeddings")),
        (("adapters", "show", "tne"), ("GET", "/v1/adapters/tne")),
        (("adapters", "load", "tne@3"), ("POST", "/v1/adapters/tne/load")),
    ],
)
def test_every_command_suggests_only_what_the_key_may_see(
    command: tuple[str, ...], route: tuple[str, str], server: FakeServer, run: Run
) -> None:
    server.script(*route, Reply.error(404, "model_not_found", "The model 'tne' does not exist."))
    server.script("GET", "/v1/models", Reply.of(listing(BASE_MODEL, ADAPTER_MODEL)))
    done = run(*command)
    assert done.exit_code == 1
    assert done.stderr.splitlines()[-1] == "  did you mean tone?"


def test_a_conversation_goes_on_after_the_suggestion(server: FakeServer, run: Run) -> None:
    server.script("POST", "/v1/chat/completions", Reply.error(404, "model_not_found"))
    server.script("GET", "/v1/models", Reply.of(listing(BASE_MODEL, ADAPTER_MODEL)))
    done = run("chat", "-i", "-m", "tne", stdin="first\nsecond\n")
    assert done.exit_code == 0
    assert done.stderr.count("did you mean tone?") == 2


def test_where_the_names_cannot_be_had_the_error_stands_alone(server: FakeServer, run: Run) -> None:
    server.script("POST", "/v1/completions", Reply.error(404, "model_not_found", "no such model"))
    server.script("GET", "/v1/models", Reply.error(500, "internal_error"))
    assert run("complete", "Once", "-m", "tne").stderr == "error: no such model (model_not_found)\n"


@pytest.mark.parametrize(
    ("models", "told"),
    [
        ([BASE_MODEL, ADAPTER_MODEL], "there is no classifier adapter yet"),
        (
            [BASE_MODEL, ADAPTER_MODEL | {"id": "mood", "capabilities": ["classification", "embedding"]}],
            "give a classifier adapter: mood",
        ),
    ],
)
def test_classify_without_a_model_lists_the_classifiers(
    models: list[dict[str, object]], told: str, server: FakeServer, run: Run
) -> None:
    server.script("GET", "/v1/models", Reply.of(listing(*models)))
    done = run("classify", "fine")
    assert done.exit_code == 2
    assert told in " ".join(done.stderr.replace("│", " ").split())


def test_embed_without_a_model_asks_the_base(server: FakeServer, run: Run) -> None:
    server.script("GET", "/v1/models", Reply.of(listing(ADAPTER_MODEL, BASE_MODEL)))
    server.script("POST", "/v1/embeddings", Reply.error(400, "task_mismatch"))
    run("embed", "fine")
    assert isinstance(server.last.json, dict)
    assert server.last.json["model"] == "small"
