"""One client of the HTTP walk: it draws an operation, does it, and checks the response.

Each client has its own names, so its own reference registry knows what each of them must answer.
"""

import asyncio
import random
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx2

from harness.server.running_server import RunningServer
from harness.soak.contents import Content, Contents
from harness.soak.http.tenant import PATIENCE_SECONDS, HttpTenant, Vocabulary, sampling_of
from harness.soak.operations import expect
from harness.soak.oracle import Oracle
from harness.soak.reference_registry import ReferenceRegistry
from harness.soak.request_generator import RequestGenerator
from harness.soak.tracked_request import TrackedRequest, WrongAnswerError
from headmix_server.core.messages import Classify, Embed, Generate
from headmix_server.core.types import AdapterRef, EmbeddingParams
from headmix_server.text.detokenize import prompt_text
from headmix_server.text.tokenizer import Tokenizer

NAMES = ("poet", "judge", "scribe")
NUM_TENANTS = 3
NUM_CONTENTS = 18
LONGEST = 64
TEXTS = ("The quick brown fox", "nothing stops the river", "Every head has its own kernel", "naïve café")


@dataclass(slots=True)
class HttpReport:
    """What the clients did; memory as (seconds, MiB) of the API process and of the engine running at that time."""

    operations: Counter[str] = field(default_factory=Counter)
    kills: int = 0
    refused: int = 0
    api_memory: list[tuple[float, float]] = field(default_factory=list)
    engine_memory: list[tuple[float, float]] = field(default_factory=list)


@dataclass(slots=True)
class HttpEnvironment:
    """What all clients of a walk share. Requests may be refused while the engine is being replaced."""

    seed: int
    server: RunningServer
    contents: Contents
    oracle: Oracle
    tokenizer: Tokenizer
    vocabulary: Vocabulary
    goes_on: Callable[[int], bool] = lambda _: False
    kills_under_way: bool = False
    report: HttpReport = field(default_factory=HttpReport)


class EngineGoneError(Exception):
    """The engine was killed during a request."""


class WalkingClient:
    """One tenant's client: draws an operation, does it over HTTP, and checks the response."""

    def __init__(self, environment: HttpEnvironment, number: int) -> None:
        self._environment = environment
        self._number = number
        self._rng = random.Random(environment.seed * 1000 + number)
        self._tenant = f"tenant-{number % NUM_TENANTS}"
        self._names = [f"{name}-{number}" for name in NAMES]
        self._registry = ReferenceRegistry()
        self._journal: deque[str] = deque(maxlen=20)
        self._generator = RequestGenerator(self._rng, environment.tokenizer.vocab_size, LONGEST)
        self._asked = 0

    async def walk(self) -> None:
        """Run operations for as long as the walk goes on."""
        names, weights = zip(*_OPERATIONS.items(), strict=True)
        server = self._environment.server
        admin = httpx2.AsyncClient(base_url=server.base_url, headers=server.headers, timeout=PATIENCE_SECONDS)
        async with admin:
            self._http = await HttpTenant.of_tenant(admin, self._tenant)
        try:
            async with self._http:
                while self._environment.goes_on(self._environment.report.operations.total()):
                    (name,) = self._rng.choices(names, weights)
                    self._environment.report.operations[name] += 1
                    await self._do(name)
        except Exception as error:
            last = "\n  ".join(self._journal)
            reason = f"{type(error).__name__}: {error}"
            text = f"seed {self._environment.seed}, {self._tenant}: {reason}\nlast operations:\n  {last}"
            raise WrongAnswerError(text) from error

    async def _do(self, name: str) -> None:
        try:
            await getattr(self, name)()
        except EngineGoneError:
            self._environment.report.refused += 1
            await asyncio.sleep(0.2)

    def _check_status(self, status: int, body: object, expected: int) -> bool:
        """Check a response's status; while the engine is being replaced, the request may be refused instead."""
        if status == expected:
            return True
        if status in {500, 503} and self._environment.kills_under_way:
            raise EngineGoneError
        raise WrongAnswerError(f"HTTP {status}, not {expected}: {body}")

    # --- the registry --------------------------------------------------------------------------------------------

    async def upload(self) -> None:
        """Publish an artifact."""
        name = self._rng.choice(self._names)
        content = self._environment.contents.get(self._rng.randrange(NUM_CONTENTS))
        self._journal.append(f"upload {content.number} as {name}")
        before = self._registry.resolve(self._tenant, name)
        status, body = await self._http.upload(name, content.path.read_bytes())
        version = self._registry.upload(self._tenant, name, content)
        expect("an upload's status", status, 200 if before is not None and before[1] == content else 201)
        expect("an upload's version", (body["version"], body["digest"]), (version, content.digest))

    async def rollback(self) -> None:
        """Make another version current."""
        name = self._rng.choice(self._names)
        version = self._rng.randint(1, 3) if self._rng.random() < 0.5 else None
        self._journal.append(f"roll {name} back to {version}")
        expected = self._registry.rollback(self._tenant, name, version)
        status, body = await self._http.post(f"/v1/adapters/{name}/rollback", {"version": version})
        if expected is None:
            expect("a rollback to nothing", status in {400, 404}, True)
        else:
            expect("a rollback", (status, body.get("version")), (200, expected))

    async def delete(self) -> None:
        """Delete an adapter with all its versions."""
        name = self._rng.choice(self._names)
        self._journal.append(f"delete {name}")
        status = await self._http.delete(f"/v1/adapters/{name}")
        expect("a deletion's status", status, 200 if self._registry.delete(self._tenant, name) else 404)

    async def load(self) -> None:
        """Load an adapter onto the device."""
        if (chosen := self._choose()) is not None and chosen[2] is not None:
            self._journal.append(f"load {chosen[0]}")
            self._check_status(*await self._http.post(f"/v1/adapters/{chosen[0]}/load", {}), 200)

    async def ask_for_another_s(self) -> None:
        """Request an adapter of the next client, which is another tenant's; it must not be found."""
        self._journal.append("ask for another's")
        body = {"model": f"{NAMES[0]}-{self._number + 1}", "prompt": [30, 31], "max_tokens": 2}
        status, answer = await self._http.post("/v1/completions", body)
        expect("another's adapter", (status, answer["error"]["code"]), (404, "model_not_found"))

    # --- requests ------------------------------------------------------------------------------------------------

    def _choose(self) -> tuple[str, int | None, Content | None] | None:
        """Draw a model: (name, version, the content that must answer); None if the drawn name has no adapter."""
        if self._rng.random() < 0.15:
            return self._environment.server.base.name, None, None
        name = self._rng.choice(self._names)
        found = self._registry.resolve(self._tenant, name)
        return None if found is None else (name, found[0], found[1])

    def _ref(self, name: str, version: int | None, content: Content | None) -> AdapterRef | None:
        if content is None or version is None:
            return None
        return AdapterRef(
            digest=content.digest,
            base=self._environment.contents.base.fingerprint,
            path=str(content.path),
            name=name,
            version=version,
            tenant=self._tenant,
        )

    async def ask(self) -> None:
        """Send one to four requests at once."""
        asked = [self._ask_one() for _ in range(self._rng.choice((1, 1, 2, 4)))]
        results = await asyncio.gather(*asked, return_exceptions=True)
        wrong = [r for r in results if isinstance(r, BaseException) and not isinstance(r, EngineGoneError)]
        if wrong:
            raise wrong[0]
        if any(isinstance(result, EngineGoneError) for result in results):
            raise EngineGoneError

    async def _ask_one(self) -> None:
        chosen = self._choose()
        if chosen is None:
            return
        name, version, content = chosen
        self._asked += 1
        self._journal.append(f"ask {name}@{version}: {'base' if content is None else content.number}")
        if content is not None and content.classifies:
            await self._classify(name, version, content)
        elif self._rng.random() < 0.15:
            await self._embed(name, version, content)
        elif self._rng.random() < 0.5:
            await self._complete(name, version, content)
        else:
            await self._stream(name, version, content)

    def _judge(
        self, requests: list[TrackedRequest], content: Content | None, header: str | None, version: int | None
    ) -> None:
        expected = None if content is None else f"@{version} {content.digest}"
        expect("the adapter header", header if header is None else header[header.index("@") :], expected)
        expect("wrong answers", self._environment.oracle.judge(requests), [])

    async def _classify(self, name: str, version: int | None, content: Content) -> None:
        text = self._rng.choice(TEXTS)
        status, body, header = await self._http.ask("/v1/classify", {"model": name, "input": text})
        self._check_status(status, body, 200)
        ref = self._ref(name, version, content)
        if ref is not None:
            prompt = self._environment.tokenizer.encode(text)
            message = Classify(request_id=f"c{self._asked}", tenant=self._tenant, prompt=prompt, adapter=ref)
            self._judge(
                [TrackedRequest(message, content, probs=body["data"][0]["probs"], ended=True)], content, header, version
            )

    async def _embed(self, name: str, version: int | None, content: Content | None) -> None:
        prompt, params = self._generator.prompt(0), EmbeddingParams(pooling="mean", normalize=True)
        asked = {"model": name, "input": prompt, "pooling": params.pooling, "normalize": params.normalize}
        status, body, header = await self._http.ask("/v1/embeddings", asked)
        self._check_status(status, body, 200)
        ref = self._ref(name, version, content)
        message = Embed(request_id=f"e{self._asked}", tenant=self._tenant, prompt=prompt, adapter=ref, params=params)
        vector = body["data"][0]["embedding"]
        self._judge([TrackedRequest(message, content, vector=vector, ended=True)], content, header, version)

    def _completion(self, name: str, content: Content | None) -> dict[str, Any]:
        return {
            "model": name,
            "prompt": self._generator.prompt(0 if content is None else content.num_added),
            "max_tokens": self._rng.choice((1, 3, 8, 16)),
            "temperature": self._rng.choice((0, 0, 0.8)),
            "seed": self._rng.randrange(5),
            "n": self._rng.choice((1, 1, 3)),
            "logprobs": 0,
            "ignore_eos": True,
        }

    def _tracked(
        self, asked: dict[str, Any], ref: AdapterRef | None, content: Content | None, choices: dict[int, list[Any]]
    ) -> list[TrackedRequest]:
        """Return a tracked request for each choice of a completion; the client abandoned those that did not end."""
        requests = []
        for index, pieces in sorted(choices.items()):
            message = Generate(
                request_id=f"g{self._asked}-{index}",
                tenant=self._tenant,
                prompt=asked["prompt"],
                adapter=ref,
                sampling=sampling_of(asked, index),
            )
            request = TrackedRequest(message, content)
            self._environment.vocabulary.fill(request, pieces)
            request.aborted = not request.ended
            tokenizer, whole = self._environment.tokenizer, [*asked["prompt"], *request.tokens]
            if request.ended and max(whole) < tokenizer.vocab_size:
                text = "".join(piece["text"] for piece in pieces)
                expect("the text", text, tokenizer.decode(whole)[len(prompt_text(tokenizer, asked["prompt"])) :])
            requests.append(request)
        return requests

    async def _complete(self, name: str, version: int | None, content: Content | None) -> None:
        asked = self._completion(name, content)
        status, body, header = await self._http.ask("/v1/completions", asked)
        self._check_status(status, body, 200)
        choices = {choice["index"]: [choice] for choice in body["choices"]}
        requests = self._tracked(asked, self._ref(name, version, content), content, choices)
        expect("the choices that ended", sum(request.ended for request in requests), asked["n"])
        self._judge(requests, content, header, version)

    async def _stream(self, name: str, version: int | None, content: Content | None) -> None:
        """Stream, and half of the time disconnect in the middle."""
        asked = self._completion(name, content)
        leave_after = self._rng.randint(1, 12) if self._rng.random() < 0.5 else None
        status, events, header = await self._http.stream("/v1/completions", asked, leave_after)
        self._check_status(status, events, 200)
        if events and "error" in events[-1]:
            self._check_status(503, events[-1], 200)
        choices: dict[int, list[Any]] = {}
        for choice in (choice for event in events for choice in event["choices"]):
            choices.setdefault(choice["index"], []).append(choice)
        requests = self._tracked(asked, self._ref(name, version, content), content, choices)
        if leave_after is None:
            expect("the choices that ended", sum(request.ended for request in requests), asked["n"])
        self._judge(requests, content, header, version)


_OPERATIONS = {"ask": 60, "upload": 14, "rollback": 5, "delete": 3, "load": 4, "ask_for_another_s": 2}
