"""Target `bodies`: any JSON, and malformed JSON, to every route that takes a body.

An input is a line with the route's path, and the body. Every response must be a documented one: a success, or an error
in OpenAI's format that is not an internal server error.
"""

import json
from collections.abc import Mapping

from hypothesis import strategies as st

from harness.fuzz.live_api import live_api
from harness.fuzz.targets.json_texts import Json, json_texts, odd_values
from harness.fuzz.targets.target import Target, kind_of
from headmix_server.api.schemas.chat import ChatRequest
from headmix_server.api.schemas.classify import ClassifyRequest
from headmix_server.api.schemas.completions import CompletionRequest
from headmix_server.api.schemas.embeddings import EmbeddingRequest
from headmix_server.api.schemas.moderations import ModerationRequest
from headmix_server.api.schemas.pairs import RerankRequest, ScoreRequest
from headmix_server.api.schemas.responses import ResponsesRequest
from headmix_server.api.schemas.tokens import DetokenizeRequest, TokenizeRequest

LONGEST_ERROR = 4000
WORDS = (
    "poet",
    "judge",
    "censor",
    "tiny-base",
    "default",
    "poet@1",
    "user",
    "system",
    "assistant",
    "tool",
    "json_object",
    "float",
)

PLAIN: Mapping[str, dict[str, Json]] = {
    "/v1/chat/completions": {"model": "poet", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 3},
    "/v1/completions": {"model": "poet", "prompt": "hello", "max_tokens": 3},
    "/v1/responses": {"model": "poet", "input": "hello", "max_output_tokens": 3},
    "/v1/classify": {"model": "judge", "input": "hello"},
    "/v1/embeddings": {"model": "tiny-base", "input": "hello"},
    "/v1/rerank": {"model": "tiny-base", "query": "hello", "documents": ["a", {"text": "b"}]},
    "/v1/score": {"model": "tiny-base", "text_1": "hello", "text_2": ["a", "b"]},
    "/v1/moderations": {"model": "censor", "input": ["hello"]},
    "/tokenize": {"model": "poet", "prompt": "hello"},
    "/detokenize": {"model": "poet", "tokens": [5, 6]},
    "/v1/adapters/poet/rollback": {"version": 1},
    "/v1/adapters/poet/load": {},
}
FIELDS: Mapping[str, tuple[str, ...]] = {
    "/v1/chat/completions": (*ChatRequest.model_fields, *ChatRequest.neutral),
    "/v1/completions": (*CompletionRequest.model_fields, *CompletionRequest.neutral),
    "/v1/responses": (*ResponsesRequest.model_fields, *ResponsesRequest.neutral),
    "/v1/classify": (*ClassifyRequest.model_fields, *ClassifyRequest.neutral),
    "/v1/embeddings": (*EmbeddingRequest.model_fields, *EmbeddingRequest.neutral),
    "/v1/rerank": (*RerankRequest.model_fields, *RerankRequest.neutral),
    "/v1/score": (*ScoreRequest.model_fields, *ScoreRequest.neutral),
    "/v1/moderations": tuple(ModerationRequest.model_fields),
    "/tokenize": tuple(TokenizeRequest.model_fields),
    "/detokenize": tuple(DetokenizeRequest.model_fields),
    "/v1/adapters/poet/rollback": ("version",),
    "/v1/adapters/poet/load": ("version", "wait"),
}


def check(data: bytes) -> str:
    """Send the body to the route."""
    path, _, body = data.partition(b"\n")
    api = live_api()
    headers = {"Authorization": f"Bearer {api.key}", "Content-Type": "application/json"}
    answer = api.send("POST", path.decode(), body, headers)
    if answer.status == 200:
        return f"{path.decode()} 200 {_read_success(answer.body)}"
    assert 400 <= answer.status < 500, answer
    assert len(answer.body) <= LONGEST_ERROR, f"an error of {len(answer.body)} bytes: {answer.body[:300]!r}"
    error = json.loads(answer.body)["error"]
    assert {"message", "type", "code", "param"} <= error.keys(), error
    assert isinstance(error["message"], str), error
    return f"{path.decode()} {answer.status} {error['code']} {kind_of(error['message'])[:30]}"


def _read_success(body: bytes) -> str:
    """Read a response, streamed or not, and return its kind."""
    if body.startswith(b"event: "):
        *_, last = [event.partition(b"\ndata: ")[2] for event in body.split(b"\n\n") if event]
        return str(json.loads(last)["type"])
    if not body.startswith(b"data: "):
        return str(json.loads(body).get("object"))
    events = [event.removeprefix(b"data: ") for event in body.split(b"\n\n") if event]
    assert events[-1] == b"[DONE]", events[-1]
    for event in events[:-1]:
        assert "error" not in json.loads(event), event
    return "stream"


_ODD = odd_values(WORDS)
_MESSAGES = st.lists(
    st.dictionaries(st.sampled_from(["role", "content", "name", "tool_calls", "x"]), _ODD | st.text(), max_size=3),
    max_size=3,
)
_VALUES = _ODD | _MESSAGES | st.sampled_from(WORDS) | st.booleans()


def _odd_bodies(path: str) -> st.SearchStrategy[bytes]:
    changes = st.dictionaries(st.sampled_from(FIELDS[path]) | st.text(max_size=4), _VALUES, max_size=3)
    bodies = changes.map(lambda changed: {**PLAIN[path], **changed}) | _ODD
    return json_texts(bodies).map(lambda body: path.encode() + b"\n" + body)


TARGET = Target(st.one_of([_odd_bodies(path) for path in sorted(PLAIN)]), check)
