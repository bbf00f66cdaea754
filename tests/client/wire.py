"""The server's responses as sent over HTTP, for the client's tests."""

DIGEST = "sha256:" + "ab" * 32
ADAPTER_HEADER = f"tone@3 {DIGEST}"

USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}

COMPLETION = {
    "id": "cmpl-1",
    "object": "text_completion",
    "created": 1_700_000_000,
    "model": "tone",
    "choices": [{"index": 0, "text": " world", "finish_reason": "stop", "logprobs": None}],
    "usage": USAGE,
}

CHAT = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1_700_000_000,
    "model": "tone",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi."}, "finish_reason": "stop"}],
    "usage": USAGE,
}

CLASSIFICATION = {
    "id": "classify-1",
    "object": "list",
    "created": 1_700_000_000,
    "model": "mood",
    "data": [
        {"index": 0, "label": "good", "probs": [0.1, 0.9], "num_classes": 2},
        {"index": 1, "label": "bad", "probs": [0.8, 0.2], "num_classes": 2},
    ],
    "usage": {"prompt_tokens": 4, "completion_tokens": 0, "total_tokens": 4},
}

EMBEDDINGS = {
    "object": "list",
    "data": [
        {"object": "embedding", "index": 0, "embedding": "AAAAPwAAgL4="},
        {"object": "embedding", "index": 1, "embedding": [1.0, 2.0]},
    ],
    "model": "small",
    "usage": {"prompt_tokens": 4, "total_tokens": 4},
}

RANKING = {
    "id": "rerank-1",
    "model": "judge",
    "method": "cross-encoder",
    "usage": USAGE,
    "results": [
        {"index": 1, "document": {"text": "a stone"}, "relevance_score": 0.75},
        {"index": 0, "document": {"text": "a sparrow"}, "relevance_score": -0.5},
    ],
}

SCORES = {
    "id": "score-1",
    "object": "list",
    "created": 1_700_000_000,
    "model": "judge",
    "method": "cosine",
    "data": [{"index": 0, "object": "score", "score": 0.5}, {"index": 1, "object": "score", "score": 0.25}],
    "usage": USAGE,
}

MODERATION = {
    "id": "modr-1",
    "model": "operator/harm",
    "results": [
        {"flagged": False, "categories": {"hate": False}, "category_scores": {"hate": 0.1}},
        {"flagged": True, "categories": {"hate": True}, "category_scores": {"hate": 0.9}},
    ],
}

FILE = {
    "id": "file-69c64a0f2f6b1c0d9e8a7b65",
    "object": "file",
    "bytes": 5,
    "created_at": 1_700_000_000,
    "expires_at": None,
    "filename": "chats.jsonl",
    "purpose": "fine-tune",
    "status": "processed",
    "status_details": None,
}

JOB = {
    "object": "fine_tuning.job",
    "id": "ftjob-0123456789abcdef01234567",
    "created_at": 1_700_000_000,
    "error": None,
    "fine_tuned_model": None,
    "finished_at": None,
    "hyperparameters": {"n_epochs": 3, "batch_size": 8, "learning_rate_multiplier": 1.0},
    "model": "small",
    "organization_id": "acme",
    "result_files": [],
    "seed": 7,
    "status": "running",
    "trained_tokens": None,
    "training_file": FILE["id"],
    "validation_file": None,
    "estimated_finish": None,
    "integrations": [],
    "metadata": None,
    "user_provided_suffix": "tone",
    "headmix": {
        "name": "tone",
        "task": "generation",
        "preset": "gpt2-nlg",
        "publish": "current",
        "examples": 11,
        "progress": {
            "step": 5,
            "steps": 20,
            "epoch": 0.5,
            "epochs": 2,
            "seconds_left": 61.0,
            "train_loss": 0.5,
            "valid_loss": None,
        },
        "scores": {},
        "warnings": [],
    },
}
JOB_EVENT = {
    "object": "fine_tuning.job.event",
    "id": "ftevent-0123456789abcdef01234567-1",
    "created_at": 1_700_000_000,
    "level": "info",
    "message": "Files validated",
    "type": "message",
    "data": None,
}

TOKENS = {"count": 2, "max_model_len": 256, "tokens": [72, 105], "token_strs": ["H", "i"]}

BASE_MODEL = {"id": "small", "object": "model", "created": 1, "owned_by": "headmix", "parent": None, "root": "small"}

ADAPTER_MODEL = {
    "id": "tone",
    "object": "model",
    "created": 2,
    "owned_by": "default",
    "parent": "small",
    "root": "small",
    "task": "generation",
    "labels": None,
    "version": 3,
    "digest": DIGEST,
    "resident": "device",
}

ADAPTER = {
    "object": "adapter",
    "name": "tone",
    "version": 3,
    "digest": DIGEST,
    "task": "generation",
    "method": "kernel-mix",
    "base": "small",
    "labels": None,
    "size_bytes": 8_036_352,
    "num_parameters": 2_009_088,
    "created": 1_700_000_000,
    "current": True,
    "resident": "device",
    "sites": {"q": {"head": {"rank": 3}}},
    "training": {"steps": 10},
}

SHARING = {"object": "adapter.sharing", "name": "tone", "everyone": False, "tenants": ["acme", "zoo"]}

DELETED = {"object": "adapter.deleted", "name": "tone", "deleted": True, "versions": [1, 2, 3]}


def listing(*items: object) -> dict[str, object]:
    """Return a list as the server sends it."""
    return {"object": "list", "data": list(items)}


def chat_chunk(text: str | None, finish_reason: str | None = None) -> dict[str, object]:
    """One event of a streamed chat."""
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1_700_000_000,
        "model": "tone",
        "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish_reason}],
    }


def completion_chunk(text: str, finish_reason: str | None = None) -> dict[str, object]:
    """One event of a streamed completion."""
    return COMPLETION | {"choices": [{"index": 0, "text": text, "finish_reason": finish_reason}], "usage": None}


TENANT = {"object": "tenant", "name": "acme", "created": 1700000000, "keys": 1}
KEY = {
    "object": "key",
    "id": "key_0123456789abcdef",
    "tenant": "acme",
    "name": "ci",
    "prefix": "hm_abcdefgh",
    "scopes": ["adapters", "inference"],
    "created": 1700000000,
    "expires": 1700003600,
    "revoked": None,
    "last_used": None,
}
NEW_KEY = KEY | {"key": "hm_abcdefgh" + "x" * 35}
AUDIT_ENTRY = {
    "object": "audit.entry",
    "number": 7,
    "at": 1700000000,
    "actor": "key_root",
    "tenant": "acme",
    "action": "key.create",
    "subject": "key_0123456789abcdef",
    "detail": {"scopes": ["inference"]},
}

LIMITS = {
    "object": "tenant.limits",
    "tenant": "acme",
    "own": {
        "requests_per_minute": 60,
        "tokens_per_minute": None,
        "tokens_per_request": None,
        "concurrent_requests": None,
        "adapters": None,
        "stored_bytes": None,
        "training_jobs": None,
        "training_tokens_per_day": None,
        "weight": 2.0,
    },
    "effective": {
        "requests_per_minute": 60,
        "tokens_per_minute": 0,
        "tokens_per_request": 0,
        "concurrent_requests": 0,
        "adapters": 100,
        "stored_bytes": 0,
        "training_jobs": 0,
        "training_tokens_per_day": 0,
        "weight": 2.0,
    },
}
BATCH = {
    "id": "batch_1",
    "object": "batch",
    "endpoint": "/v1/chat/completions",
    "status": "in_progress",
    "input_file_id": "file-1",
    "completion_window": "24h",
    "created_at": 1700000000,
    "expires_at": 1700086400,
    "request_counts": {"total": 3, "completed": 1, "failed": 0},
    "usage": {"input_tokens": 7, "output_tokens": 5, "total_tokens": 12},
    "errors": None,
    "output_file_id": None,
}
USAGE_LINE = {
    "object": "usage.line",
    "tenant": "acme",
    "day": "2026-11-24",
    "model": "tone",
    "requests": 3,
    "prompt_tokens": 30,
    "cached_tokens": 12,
    "generation_tokens": 6,
    "trained_tokens": 0,
}
