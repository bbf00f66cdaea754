"""An honest tenant: it asks its own adapters what it knows the answers to, one stream after the other.

It learned every answer alone, before anybody else was there, so a single foreign byte shows. What it sees that it
should not is a fault; the scene must end without one.
"""

import asyncio
import itertools
import json
import random
import time
from dataclasses import dataclass, field
from typing import Any

import httpx2

from benchmarks.hostile.tenant import Tenant
from headmix.sse import SSEDecoder

ADAPTER_HEADER = "x-headmix-adapter"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a question was answered with, and seconds from asking to the first event that has a token."""

    status: int
    adapter: str | None
    text: str
    first_token: float


@dataclass(slots=True)
class Neighbour:
    """`first_tokens` are seconds; `faults` say what went wrong, by question."""

    tenant: Tenant
    questions: list[dict[str, Any]]
    expected: list[Answer] = field(default_factory=list)
    first_tokens: list[float] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    async def learn(self, base_url: str) -> None:
        """Ask everything once, alone.

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
        """Keep so many streams open until the time of `time.monotonic`, each going on with the next question."""
        order = itertools.cycle(random.Random(seed).sample(range(len(self.questions)), len(self.questions)))
        async with self.tenant.connect(base_url) as http, asyncio.TaskGroup() as group:
            for _ in range(streams):
                group.create_task(self._stream_on(http, order, until))

    async def _stream_on(self, http: httpx2.AsyncClient, order: "itertools.cycle[int]", until: float) -> None:
        while time.monotonic() < until:
            number = next(order)
            try:
                answer = await ask(http, self.questions[number])
            except httpx2.HTTPError as error:
                self.faults.append(f"{self.tenant.name}, question {number}: {error!r}")
                continue
            self.first_tokens.append(answer.first_token)
            known = self.expected[number]
            if (answer.status, answer.adapter, answer.text) != (known.status, known.adapter, known.text):
                self.faults.append(f"{self.tenant.name}, question {number}: {answer}, not {known}")


async def ask(http: httpx2.AsyncClient, question: dict[str, Any]) -> Answer:
    """Stream one greedy completion to its end."""
    began = time.perf_counter()
    first = 0.0
    texts: list[str] = []
    async with http.stream("POST", "/v1/completions", json={**question, "stream": True}) as answer:
        adapter = answer.headers.get(ADAPTER_HEADER)
        if answer.status_code != 200:
            return Answer(answer.status_code, adapter, (await answer.aread()).decode(), time.perf_counter() - began)
        decoder = SSEDecoder()
        async for block in answer.aiter_bytes():
            for event in decoder.feed(block):
                first = first or time.perf_counter() - began
                texts.append(_text(event.data))
    return Answer(200, adapter, "".join(texts), first)


def _text(data: str) -> str:
    if data == "[DONE]":
        return ""
    event = json.loads(data)
    return "".join(choice["text"] for choice in event["choices"]) if "choices" in event else data
