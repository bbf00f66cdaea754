"""One tenant of the walk over HTTP: sends requests, reads statuses, bodies and events, decodes answers to tokens."""

import json
from types import TracebackType
from typing import Any, Self

import httpx2

from harness.soak.contents import WORDS
from harness.soak.tracked_request import TrackedRequest
from headmix.http.sse import SSEDecoder
from headmix_server.core.sampling import for_choice
from headmix_server.core.types import FinishReason, SamplingParams, TokenLogprob
from headmix_server.text.tokenizer import Tokenizer

PATIENCE_SECONDS = 60.0
ADAPTER_HEADER = "x-headmix-adapter"


def sampling_of(body: dict[str, Any], choice: int) -> SamplingParams:
    """Return the sampling parameters the engine must have received for one choice of a completion."""
    sampling = SamplingParams(
        max_tokens=body["max_tokens"], temperature=body["temperature"], seed=body["seed"], ignore_eos=True, logprobs=0
    )
    return for_choice(sampling, choice)


class Vocabulary:
    """Tokens by their text in the API; every token of the base, and every added one, has a distinct text."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        shown = [tokenizer.name(token) for token in range(tokenizer.vocab_size)]
        self._ids = {text: token for token, text in enumerate([*shown, *WORDS])}
        if len(self._ids) != len(shown) + len(WORDS):
            raise ValueError("two tokens of the base look alike")

    def token(self, shown: str) -> int:
        """Return the token with this text."""
        return self._ids[shown]

    def fill(self, request: TrackedRequest, pieces: list[dict[str, Any]]) -> None:
        """Record a choice's pieces, in order, as the request's answer."""
        for piece in pieces:
            logprobs = piece["logprobs"] or {"tokens": [], "token_logprobs": []}
            tokens = [self.token(text) for text in logprobs["tokens"]]
            request.tokens.extend(tokens)
            request.logprobs.extend(
                TokenLogprob(token=token, logprob=score)
                for token, score in zip(tokens, logprobs["token_logprobs"], strict=True)
            )
            if piece["finish_reason"] is not None:
                request.finish_reason = FinishReason(piece["finish_reason"])
                request.ended = True


class HttpTenant:
    """A tenant's connection, with its own key."""

    def __init__(self, base_url: str, key: str) -> None:
        headers = {"Authorization": f"Bearer {key}"}
        self._http = httpx2.AsyncClient(base_url=base_url, headers=headers, timeout=PATIENCE_SECONDS)

    @classmethod
    async def of_tenant(cls, admin: httpx2.AsyncClient, tenant: str) -> "HttpTenant":
        """Create the tenant if it is new, and a key for it."""
        (await admin.post("/v1/tenants", json={"name": tenant})).raise_for_status()
        made = await admin.post(f"/v1/tenants/{tenant}/keys", json={"scopes": ["inference", "adapters"], "name": None})
        made.raise_for_status()
        return cls(str(admin.base_url), made.json()["key"])

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        await self._http.aclose()

    async def upload(self, name: str, data: bytes) -> tuple[int, Any]:
        """Upload an artifact."""
        answer = await self._http.post("/v1/adapters", data={"name": name}, files={"file": ("a.safetensors", data)})
        return answer.status_code, answer.json()

    async def delete(self, path: str) -> int:
        """Delete, and return the status."""
        return (await self._http.delete(path)).status_code

    async def post(self, path: str, body: object) -> tuple[int, Any]:
        """Post JSON."""
        answer = await self._http.post(path, json=body)
        return answer.status_code, answer.json()

    async def ask(self, path: str, body: object) -> tuple[int, Any, str | None]:
        """Post JSON; return the status, the body and which adapter answered."""
        answer = await self._http.post(path, json=body)
        return answer.status_code, answer.json(), answer.headers.get(ADAPTER_HEADER)

    async def stream(
        self, path: str, body: dict[str, Any], leave_after: int | None
    ) -> tuple[int, list[dict[str, Any]], str | None]:
        """Stream, and disconnect after a number of events; return the status, the events and which adapter answered."""
        events: list[dict[str, Any]] = []
        async with self._http.stream("POST", path, json={**body, "stream": True}) as answer:
            header = answer.headers.get(ADAPTER_HEADER)
            if answer.status_code != 200:
                return answer.status_code, [json.loads(await answer.aread())], header
            decoder = SSEDecoder()  # not aiter_lines: a text may contain characters that Python treats as line ends
            async for block in answer.aiter_bytes():
                events.extend(json.loads(event.data) for event in decoder.feed(block) if event.data.startswith("{"))
                if leave_after is not None and len(events) >= leave_after:
                    break
        return 200, events, header
