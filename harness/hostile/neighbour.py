"""An honest tenant: it asks its own adapters questions whose answers it knows, one stream after another.

It learned every answer while it was alone on the server, so a single foreign byte is noticed. Anything it should not
see is a fault; the experiment must end without one.
"""

import asyncio
import itertools
import json
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx2

from harness.hostile.tenant import Tenant
from headmix.http.sse import SSEDecoder

ADAPTER_HEADER = "x-headmix-adapter"


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a question, and the seconds from the request to the first event and from each event to the next."""

    status: int
    adapter: str | None
    text: str
    first_token: float
    gaps: Sequence[float] = ()

    def same(self, other: "Answer") -> bool:
        """Return whether two answers have the same content, regardless of timing."""
        return (self.status, self.adapter, self.text) == (other.status, other.adapter, other.text)


@dataclass(slots=True)
class Times:
    """Seconds to first tokens and between tokens."""

    first_tokens: list[float] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)

    def add(self, answer: Answer) -> None:
        """Count one answer."""
        self.first_tokens.append(answer.first_token)
        self.gaps.extend(answer.gaps)

    def extend(self, other: "Times") -> None:
        """Add another phase's answers."""
        self.first_tokens.extend(other.first_tokens)
        self.gaps.extend(other.gaps)


@dataclass(slots=True)
class Neighbour:
    """`own` is the adapter it may pin; `times` and `faults` are of the current phase."""

    tenant: Tenant
    own: str
    questions: list[dict[str, Any]]
    expected: list[Answer] = field(default_factory=list)
    times: Times = field(default_factory=Times)
    faults: list[str] = field(default_factory=list)

    async def learn(self, base_url: str) -> None:
        """Ask every question once, alone on the server.

        Raises:
            RuntimeError: a question is not answered.
        """
        async with self.tenant.connect(base_url) as http:
            for question in self.questions:
                answer = await ask(http, question)
                if answer.status != 200:
                    raise RuntimeError(f"{self.tenant.name} got {answer.status} alone: {answer.text}")
                self.expected.append(answer)

    async def work(self, base_url: str, until: float, streams: int, seed: int) -> None:
        """Keep a number of streams open until a time of `time.monotonic`, each continuing with the next question."""
        order = itertools.cycle(random.Random(seed).sample(range(len(self.questions)), len(self.questions)))
        async with self.tenant.connect(base_url) as http, asyncio.TaskGroup() as group:
            for _ in range(streams):
                group.create_task(self._stream_on(http, order, until))

    async def require_a_pin(self, base_url: str) -> None:
        """Pin its adapter, which no other tenant may prevent, and unpin it."""
        async with self.tenant.connect(base_url) as http:
            path = f"/v1/adapters/{self.own}/pin"
            answer = await http.post(path)
            if answer.status_code != 200:
                self.faults.append(f"{self.tenant.name} cannot pin its own adapter: {answer.text[:200]}")
            await http.delete(path)

    async def _stream_on(self, http: httpx2.AsyncClient, order: "itertools.cycle[int]", until: float) -> None:
        while time.monotonic() < until:
            number = next(order)
            try:
                answer = await ask(http, self.questions[number])
            except httpx2.HTTPError as error:
                self.faults.append(f"{self.tenant.name}, question {number}: {error!r}")
                continue
            self.times.add(answer)
            known = self.expected[number]
            if not answer.same(known):
                self.faults.append(f"{self.tenant.name}, question {number}: {answer.text[:200]!r}, not {known.text!r}")


async def ask(http: httpx2.AsyncClient, question: dict[str, Any]) -> Answer:
    """Stream one greedy completion to its end."""
    began = time.perf_counter()
    came: list[float] = []
    texts: list[str] = []
    async with http.stream("POST", "/v1/completions", json={**question, "stream": True}) as answer:
        adapter = answer.headers.get(ADAPTER_HEADER)
        if answer.status_code != 200:
            return Answer(answer.status_code, adapter, (await answer.aread()).decode(), time.perf_counter() - began)
        decoder = SSEDecoder()
        async for block in answer.aiter_bytes():
            for event in decoder.feed(block):
                if event.data != "[DONE]":
                    came.append(time.perf_counter())
                    texts.append(_text(event.data))
    gaps = [later - earlier for earlier, later in itertools.pairwise(came)]
    return Answer(200, adapter, "".join(texts), came[0] - began if came else 0.0, gaps)


def _text(data: str) -> str:
    event = json.loads(data)
    return "".join(choice["text"] for choice in event["choices"]) if "choices" in event else data
