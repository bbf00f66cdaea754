"""headmix in this process: requests through the engine without HTTP, offered in three ways."""

import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from headmix_server.core.messages import Classify, Generate
from headmix_server.core.types import AdapterRef, SamplingParams
from headmix_server.engine.loop import Engine
from headmix_server.llm.session import Answer, EngineSession

Work = Generate | Classify

_ids = itertools.count()


@dataclass(frozen=True, slots=True)
class Timed:
    """When a request arrived, and when each of its tokens, or its scores, came, on the same clock."""

    arrived: float
    tokens: list[float]

    @property
    def first_token(self) -> float:
        """Seconds from arrival to the first token, or to the scores."""
        return self.tokens[0] - self.arrived


def greedy(prompt: list[int], adapter: AdapterRef | None, max_tokens: int) -> Generate:
    """Return a greedy request that does not stop early."""
    sampling = SamplingParams(max_tokens=max_tokens, temperature=0, ignore_eos=True)
    name = f"bench-{next(_ids)}"
    return Generate(request_id=name, tenant="default", prompt=prompt, adapter=adapter, sampling=sampling)


def classify(text: list[int], adapter: AdapterRef) -> Classify:
    """Return a text to classify."""
    return Classify(request_id=f"bench-{next(_ids)}", tenant="default", prompt=text, adapter=adapter)


def spread_over(prompts: Sequence[list[int]], adapters: Sequence[AdapterRef], max_tokens: int) -> list[Generate]:
    """Return one request per prompt; request i has adapter i modulo their number, or none."""
    return [
        greedy(prompt, adapters[index % len(adapters)] if adapters else None, max_tokens)
        for index, prompt in enumerate(prompts)
    ]


def run_all(engine: Engine, requests: Sequence[Work]) -> float:
    """Return the seconds from submitting all requests to the end of the last answer."""
    session = EngineSession(engine)
    began = time.perf_counter()
    for request in requests:
        session.submit(request)
    session.drain()
    seconds = time.perf_counter() - began
    _check(session, requests)
    return seconds


def run_closed(engine: Engine, requests: Sequence[Work], width: int) -> float:
    """Return the seconds for all requests, with `width` of them open at any time."""
    session = EngineSession(engine)
    waiting: Iterator[Work] = iter(requests)
    began = time.perf_counter()
    unfinished: set[str] = set()
    while True:
        for request in itertools.islice(waiting, width - len(unfinished)):
            session.submit(request)
            unfinished.add(request.request_id)
        if not unfinished:
            break
        session.step()
        unfinished = {name for name in unfinished if not session.answers[name].ended}
    session.drain()
    seconds = time.perf_counter() - began
    _check(session, requests)
    return seconds


def run_open(engine: Engine, requests: Sequence[Work], arrivals: Sequence[float]) -> list[Timed]:
    """Submit each request at its time (seconds from now, ascending), whatever the engine is doing; time every token."""
    session = EngineSession(engine)
    began = time.perf_counter()
    timed = {
        request.request_id: Timed(began + arrival, []) for request, arrival in zip(requests, arrivals, strict=True)
    }
    waiting = list(requests)
    while waiting or not engine.idle:
        while waiting and timed[waiting[0].request_id].arrived <= time.perf_counter():
            session.submit(waiting.pop(0))
        if engine.idle:
            time.sleep(max(0.0, timed[waiting[0].request_id].arrived - time.perf_counter()))
            continue
        session.step()
        _stamp(session, timed)
    engine.check_integrity()
    _check(session, requests)
    return list(timed.values())


def _stamp(session: EngineSession, timed: dict[str, Timed]) -> None:
    now = time.perf_counter()
    for name, answer in session.answers.items():
        times = timed[name].tokens
        times.extend([now] * (len(answer.tokens) + bool(answer.probs) - len(times)))


def _check(session: EngineSession, requests: Sequence[Work]) -> None:
    for request in requests:
        answer = session.answers[request.request_id]
        if not _complete(request, answer):
            raise RuntimeError(f"{request.request_id} got {len(answer.tokens)} tokens: {answer.failure}")


def _complete(request: Work, answer: Answer) -> bool:
    if isinstance(request, Classify):
        return bool(answer.probs)
    return answer.failure is None and len(answer.tokens) == request.sampling.max_tokens
