"""docs/api.md and docs/errors.md match the code: routes, scopes, parameters, error codes and examples."""

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.adapters.artifacts import random_artifact
from harness.server.api_rig import BASE, ApiRig
from headmix_server.api.app import create_app
from headmix_server.api.inference.tenant_limits import RETRY_CONCURRENT
from headmix_server.api.middleware.error_responses import ROUTING_CODES
from headmix_server.api.responses.sse import FIRST_EVENT_SECONDS, PING_SECONDS
from headmix_server.api.routes.files import MOST_LISTED
from headmix_server.api.routes.usage import USUAL_DAYS
from headmix_server.api.schemas.body import RequestBody
from headmix_server.api.schemas.chat import ChatRequest
from headmix_server.api.schemas.classify import ClassifyRequest
from headmix_server.api.schemas.completions import CompletionRequest
from headmix_server.api.schemas.embeddings import EmbeddingRequest
from headmix_server.api.schemas.fine_tuning import FineTuningRequest
from headmix_server.api.schemas.generation import SamplingBody
from headmix_server.api.schemas.messages import ChatMessage, TextPart
from headmix_server.api.schemas.pairs import RerankRequest, ScoreRequest
from headmix_server.api.schemas.responses import Reasoning, ResponsesRequest, TextOptions
from headmix_server.api.uploads.receive_file import LONGEST, SHORTEST
from headmix_server.core.errors import ERRORS_BY_CODE, EngineUnavailable, ServerOverloaded
from headmix_server.core.types import UNSCORED
from headmix_server.files.record import MOST_FILES
from headmix_server.files.stored_file import MAX_FILENAME
from headmix_server.files.uploads import MOST_PARTS, MOST_PENDING, PART_BYTES
from headmix_server.services.conversion import RETRY_SECONDS
from headmix_server.tenancy.keys.principal import Scope
from headmix_server.tenancy.limits.limits import LIMIT_NAMES
from headmix_server.tenancy.limits.tenant_limits import REMEMBERED_SECONDS
from headmix_server.tenancy.usage.report import MOST_ROWS
from tests.support.doc_blocks import to_run

pytestmark = pytest.mark.drift


DOCS = Path(__file__).parents[3] / "docs"
API = (DOCS / "api.md").read_text(encoding="utf-8")
ERRORS = (DOCS / "errors.md").read_text(encoding="utf-8")
EXAMPLES = [block.text.replace("\\\n", " ") for block in to_run("docs/api.md", "sh")]


def rows(text: str, after: str) -> Iterator[list[str]]:
    """Return the cells of the first table after a sentence."""
    lines = text[text.index(after) + len(after) :].splitlines()
    start = next(place for place, line in enumerate(lines) if line.startswith("|---")) + 1
    for line in lines[start:]:
        if not line.startswith("|"):
            return
        yield [cell.strip() for cell in line.strip("|").split("|")]


def error_rows() -> Iterator[list[str]]:
    return rows(ERRORS, "`WWW-Authenticate: Bearer`.")


def names(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_every_error_is_in_the_table_with_its_status_and_type() -> None:
    table = {names(code)[0]: (int(status), names(kind)[0]) for status, code, kind, _ in error_rows()}
    assert table == {code: (error.status, error.type) for code, error in ERRORS_BY_CODE.items()}


def test_the_numbers_on_the_errors_page_are_the_servers() -> None:
    retries = {names(code)[0]: retry for _, code, _, retry in error_rows() if retry}
    assert retries.pop("rate_limit_exceeded") == "see below"
    usual = {code: error.usual_retry for code, error in ERRORS_BY_CODE.items() if error.usual_retry is not None}
    assert retries.keys() == usual.keys()
    assert all(retry.startswith(str(usual[code])) for code, retry in retries.items())
    assert retries["server_overloaded"] == f"{ServerOverloaded.usual_retry} or {EngineUnavailable.usual_retry}"
    flat = " ".join(ERRORS.split())
    assert f"{RETRY_SECONDS} where too many of your adapters wait to be converted" in flat
    assert f"{RETRY_CONCURRENT} second where too many requests are open" in flat
    assert f"after {FIRST_EVENT_SECONDS:g} seconds without one" in flat
    for status, code in ROUTING_CODES.items():
        assert f"{status} `{code}`" in flat


def test_every_error_in_the_table_is_explained_once() -> None:
    table = [names(code)[0] for _, code, _, _ in error_rows()]
    explained = re.findall(r"^\* `(\w+)`: ", ERRORS.split("## Meanings")[1].split("\n## ")[0], re.MULTILINE)
    assert explained == table


async def test_every_route_is_in_the_table_with_the_scope_it_needs(rig: ApiRig) -> None:
    documented = {names(route)[0]: scope.strip("`") for route, scope in rows(API, "every scope.")}
    paths = create_app(rig.state).openapi()["paths"]
    assert documented.keys() == {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}
    keys = {"none needed": {"Authorization": ""}, "any": rig.key(Scope.ADMIN)}
    keys |= {scope.value: rig.key(scope) for scope in (Scope.INFERENCE, Scope.ADAPTERS, Scope.ADMIN)}
    others = {"inference": Scope.ADAPTERS, "adapters": Scope.INFERENCE, "admin": Scope.METRICS}
    for route, scope in documented.items():
        method, path = route.split(" ")
        answer = await rig.client.request(method, path, headers=keys[scope])
        assert answer.status_code not in (401, 403), route
        if scope in others:
            refused = await rig.client.request(method, path, headers=rig.key(others[scope]))
            assert refused.status_code == 403, route


@pytest.mark.parametrize(
    ("request_body", "sentence", "extra"),
    [
        (CompletionRequest, "Only /v1/completions takes:", set[str]()),
        (ChatRequest, "Only /v1/chat/completions takes:", {"parallel_tool_calls"}),
    ],
)
def test_every_parameter_is_documented_and_none_else(
    request_body: type[SamplingBody], sentence: str, extra: set[str]
) -> None:
    documented = {
        name for after in ("Both routes take:", sentence) for cell, *_ in rows(API, after) for name in names(cell)
    }
    assert documented | bookkeeping("**Bookkeeping**", "In a message") - {"parallel_tool_calls"} | extra == (
        request_body.model_fields.keys()
    )


def bookkeeping(start: str, end: str) -> set[str]:
    """Return the names between two phrases in the passage on fields without effect."""
    passage = API[API.index("**Bookkeeping**") : API.index('**Values that mean "not used"**')]
    return set(names(passage[passage.index(start) :].partition(end)[0]))


def test_what_a_message_may_carry_is_documented_and_none_else() -> None:
    message = bookkeeping("In a message", "in a part")
    explained = {"role", "content", "name", "reasoning", "reasoning_content", "tool_calls", "tool_call_id"}
    assert message | explained == ChatMessage.model_fields.keys()
    part = bookkeeping("in a part", "\n\n")
    assert part | {"type", "text"} == TextPart.model_fields.keys()


def test_every_parameter_of_responses_is_documented_and_none_else() -> None:
    table = API[API.index("Otherwise it works like a [chat]") :]
    documented = {name for cell, *_ in rows(table, "limits and adapters.") for name in names(cell)}
    shared = bookkeeping("**Bookkeeping**", "In a message") & ResponsesRequest.model_fields.keys()
    assert documented | shared == ResponsesRequest.model_fields.keys()


def test_every_parameter_of_embeddings_is_documented_and_none_else() -> None:
    documented = {name for cell, *_ in rows(API, "The embedding's parameters:") for name in names(cell)}
    assert documented | {"user"} == EmbeddingRequest.model_fields.keys()


def test_every_parameter_of_rerank_is_documented_and_none_else() -> None:
    documented = {name for cell, *_ in rows(API, "A classifier with several labels") for name in names(cell)}
    assert documented | {"user"} == RerankRequest.model_fields.keys()


GENERATION, POOLING = "both generation routes", "classify, embeddings, rerank and score"


@pytest.mark.parametrize(
    ("request_body", "places"),
    [
        (CompletionRequest, {GENERATION, "completions"}),
        (ChatRequest, {GENERATION, "chat"}),
        (ChatMessage, {"chat, in a message"}),
        (TextPart, {"chat, in a part"}),
        (ResponsesRequest, {"responses"}),
        (TextOptions, {"responses, in `text`"}),
        (Reasoning, {"responses, in `reasoning`"}),
        (ClassifyRequest, {POOLING}),
        (EmbeddingRequest, {POOLING, "embeddings"}),
        (RerankRequest, {POOLING}),
        (ScoreRequest, {POOLING}),
        (FineTuningRequest, {"fine-tuning jobs"}),
    ],
)
def test_the_neutral_values_are_those_documented(request_body: type[RequestBody], places: set[str]) -> None:
    documented = {
        names(name)[0]: json.loads(f"[{accepted}]")
        for where, name, accepted in rows(API, "of parameters that are not supported:")
        if where in places
    }
    assert documented == {name: list(values) for name, values in request_body.neutral.items()}


def test_the_numbers_on_the_api_page_are_the_servers() -> None:
    flat = " ".join(API.split())
    assert f"silent for {PING_SECONDS:g} seconds" in flat
    assert f"score {UNSCORED}" in flat
    assert f"within {REMEMBERED_SECONDS:g} seconds" in flat
    assert f"more than {MOST_ROWS} lines" in flat
    assert f"last {USUAL_DAYS} days" in flat
    assert f"({SHORTEST} to {LONGEST})" in flat
    assert f"page has at most {MOST_LISTED} files" in flat
    assert f"1 to {MAX_FILENAME} printable" in flat
    assert f"may have {MOST_FILES} files" in flat
    assert f"may have {MOST_PENDING} of them" in flat
    assert f"at most {PART_BYTES >> 20} MiB each, {MOST_PARTS} parts" in flat


def test_every_limit_is_documented_and_none_else() -> None:
    documented = [names(cell)[0] for cell, *_ in rows(API, "The limits of a tenant:")]
    assert documented == list(LIMIT_NAMES)


@pytest.mark.parametrize("example", EXAMPLES)
async def test_examples_are_answered(rig: ApiRig, example: str, tmp_path: Path) -> None:
    rig.publish("tone", labels=("negative", "positive"))
    rig.publish("judge", labels=("relevance",), problem="regression")
    rig.publish("harm", labels=("hate", "spam"), problem="multi_label")
    for content in (b"1", b"2"):
        rig.publish("writer", content)
    await rig.client.post("/v1/adapters/writer/rollback")
    rig.publish("brief")
    rig.state.tenants.create("acme", actor="test")
    rig.publish("tone", tenant="acme")
    rig.engine.probs = [2.5] if "judge" in example else [0.25, 0.75]
    rig.engine.vector = [0.6, 0.8]
    random_artifact(tmp_path / "tone.safetensors", rig.state.base.shape)
    (tmp_path / "chats.jsonl").write_text('{"messages": []}\n', encoding="utf-8")
    chats = {"file": ("chats.jsonl", (tmp_path / "chats.jsonl").read_bytes())}
    uploaded = await rig.client.post("/v1/files", data={"purpose": "fine-tune"}, files=chats)
    example = example.replace("file-6a5f", uploaded.json()["id"]).replace("smollm2-135m-instruct", BASE)
    words = shlex.split(example)
    given = [(words[place], words[place + 1]) for place in range(len(words) - 1)]
    path = words[-1].removeprefix("$URL")
    fields = dict(value.split("=", 1) for flag, value in given if flag == "-F")
    bodies = [json.loads(value) for flag, value in given if flag == "-d"]
    method = next((value for flag, value in given if flag == "-X"), "POST")
    if fields:
        file = (tmp_path / fields.pop("file").removeprefix("@")).read_bytes()
        response = await rig.client.post(path, data=fields, files={"file": file})
    elif bodies:
        response = await rig.client.request(method, path, json=bodies[0])
    else:
        response = await rig.client.request(method, path)
    assert response.status_code in (200, 201), response.text
