"""The client's page is correct: its snippets run here; tests/docs checks its commands."""

import hashlib
from pathlib import Path

import pytest

from tests.client.fake_server import FakeServer, Reply
from tests.client.wire import (
    ADAPTER,
    AUDIT_ENTRY,
    BASE_MODEL,
    BATCH,
    CHAT,
    CLASSIFICATION,
    COMPLETION,
    DELETED,
    EMBEDDINGS,
    FILE,
    JOB,
    KEY,
    LIMITS,
    MODERATION,
    NEW_KEY,
    RANKING,
    SCORES,
    SHARING,
    TENANT,
    TOKENS,
    USAGE_LINE,
    chat_chunk,
    listing,
)
from tests.support.doc_blocks import to_run

pytestmark = pytest.mark.drift


SNIPPETS = [block.text for block in to_run("docs/client.md", "python")]
FAULTY = {"error": {"message": "1 fault", "code": "invalid_adapter", "faults": ["not a safetensors file"]}}
CHATS = "/v1/chat/completions"
CALL = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'}}
CALLED = CHAT | {"choices": [{"index": 0, "message": {"role": "assistant", "content": None, "tool_calls": [CALL]}}]}
STREAM = Reply.stream(chat_chunk("Hi"))


def script(server: FakeServer, snippet: str) -> None:
    """Script a reply to every request a snippet may send."""
    name = f"support@3 sha256:{hashlib.sha256(b'artifact').hexdigest()}"
    server.script("GET", "/v1/adapters/support/file?version=3", Reply(200, b"artifact", {"x-headmix-adapter": name}))
    server.script("GET", "/v1/adapters/support/versions?limit=1000", Reply.of(listing(ADAPTER)))
    server.script("POST", "/v1/adapters/support/load", Reply.of(ADAPTER))
    server.script("POST", "/v1/adapters/support/rollback", Reply.of(ADAPTER))
    server.script("DELETE", "/v1/adapters/support", Reply.of(DELETED))
    server.script("DELETE", "/v1/adapters/support/versions/2", Reply.of(DELETED))
    server.script("POST", "/v1/adapters/support/versions/2/retire", Reply.of(ADAPTER))
    for method in ("GET", "PUT"):
        server.script(method, "/v1/adapters/support/sharing", Reply.of(SHARING))
    server.script("PUT", "/v1/adapters/support/canary", Reply.of(ADAPTER))
    server.script("POST", "/v1/adapters/support/canary/promote", Reply.of(ADAPTER))
    server.script("POST", "/v1/adapters/support/pin", Reply.of(ADAPTER))
    server.script("POST", "/v1/adapters/poet/load?owner=zoo", Reply.of(ADAPTER))
    server.script("POST", "/v1/files", Reply.of(FILE))
    server.script("GET", "/v1/files?limit=1000&purpose=fine-tune", Reply.of(listing(FILE)))
    tag = f'"sha256:{hashlib.sha256(b"chats").hexdigest()}"'
    server.script("GET", f"/v1/files/{FILE['id']}/content", Reply(200, b"chats", {"etag": tag}))
    server.script("DELETE", f"/v1/files/{FILE['id']}", Reply.of({"id": FILE["id"], "deleted": True}))
    server.script("POST", "/v1/batches", Reply.of(BATCH))
    server.script("GET", "/v1/batches/batch_1", Reply.of(BATCH))
    server.script("GET", "/v1/batches?limit=100", Reply.of(listing(BATCH)))
    server.script("POST", "/v1/batches/batch_1/cancel", Reply.of(BATCH))
    server.script("GET", "/v1/models", Reply.of(listing(BASE_MODEL)))
    server.script("POST", "/v1/fine_tuning/jobs", Reply.of(JOB | {"status": "succeeded"}))
    server.script("POST", "/v1/tenants", Reply.of(TENANT, 201))
    server.script("POST", "/v1/tenants/acme/keys", Reply.of(NEW_KEY, 201))
    server.script("POST", f"/v1/tenants/acme/keys/{NEW_KEY['id']}/rotate", Reply.of(NEW_KEY, 201))
    server.script("DELETE", f"/v1/tenants/acme/keys/{NEW_KEY['id']}", Reply.of(KEY))
    server.script("GET", "/v1/audit?limit=100&tenant=acme", Reply.of(listing(AUDIT_ENTRY)))
    server.script("PATCH", "/v1/tenants/acme/limits", Reply.of(LIMITS))
    server.script("GET", "/v1/tenants/acme/limits", Reply.of(LIMITS))
    owned = "/v1/tenants/acme/adapters"
    server.script("GET", f"{owned}?limit=1000", Reply.of(listing(ADAPTER)))
    server.script("DELETE", f"{owned}/support/sharing", Reply.of(SHARING))
    server.script("POST", f"{owned}/support/versions/2/retire", Reply.of(ADAPTER))
    server.script("DELETE", f"{owned}/support", Reply.of(DELETED))
    november = "/v1/usage?group_by=model&from=2026-11-01&to=2026-11-30"
    server.script("GET", november, Reply.of(listing(USAGE_LINE)))
    server.script("GET", "/v1/usage?group_by=tenant%2Cday%2Cmodel&format=csv", Reply(200, b"tenant,day\r\n"))
    storage = {"tenant": "acme", "stored_bytes": 12, "limit": 20}
    server.script("GET", "/v1/usage?group_by=", Reply.of(listing() | {"storage": storage}))
    server.script("POST", "/v1/classify", Reply.of(CLASSIFICATION))
    server.script("POST", "/v1/embeddings", Reply.of(EMBEDDINGS))
    server.script("POST", "/v1/rerank", Reply.of(RANKING))
    server.script("POST", "/v1/score", Reply.of(SCORES))
    server.script("POST", "/v1/moderations", Reply.of(MODERATION))
    server.script("POST", "/tokenize", Reply.of(TOKENS))
    server.script("POST", "/detokenize", Reply.of({"prompt": "Hi"}))
    server.script("POST", "/v1/completions", Reply.of(COMPLETION))
    server.script("POST", "/v1/adapters", Reply.of(FAULTY, 422) if "broken" in snippet else Reply.of(ADAPTER, 201))
    chat = Reply.error(404, "model_not_found") if "nobody" in snippet else Reply.of(CHAT)
    before = [Reply.of(CALLED)] if "tools" in snippet else [chat] * 3 if "gather" in snippet else []
    server.script("POST", CHATS, *before, STREAM if "stream" in snippet else chat)


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_each_snippet_runs(snippet: str, server: FakeServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    script(server, snippet)
    monkeypatch.setenv("HEADMIX_BASE_URL", server.url)
    monkeypatch.chdir(tmp_path)
    Path("support.safetensors").write_bytes(b"artifact")
    Path("chats.jsonl").write_bytes(b"chats")
    exec(compile(snippet, "docs/client.md", "exec"), {"__name__": "__main__"})
    assert server.received
