"""Loading an adapter that is only on disk: how long it takes, and its effect on the running streams."""

import itertools
import time
from dataclasses import dataclass

from benchmarks.yardstick.contenders.contender import Contender, Measured, interleave
from benchmarks.yardstick.contenders.in_process import spread_over
from benchmarks.yardstick.floors import Ceilings
from benchmarks.yardstick.stage import Stage
from headmix_server.core.messages import AdapterLoaded, Generate, LoadAdapter
from headmix_server.core.types import AdapterRef
from headmix_server.engine.loop import Engine
from headmix_server.engine.server import LOADING_POLL_SECONDS
from headmix_server.llm.session import EngineSession

ALONE, DISTURBANCE = "cold load", "streams during a cold load"
UNDISTURBED, DISTURBED = "headmix, undisturbed", "headmix, one cold load"
FIRST_COLD = 2_000
"""Cold adapters are numbered from here, so that no other measurement has loaded them."""

_numbers = itertools.count(FIRST_COLD)


@dataclass(frozen=True, slots=True)
class ColdLoads:
    """Loads adapters that have never been loaded, one after the other, on an idle engine."""

    stage: Stage
    name: str = "headmix"
    rival: bool = False

    def run(self, number: int) -> list[float]:
        """Return the milliseconds from the request until the adapter is on the device."""
        del number
        engine = self.stage.engine()
        refs = [_cold(self.stage) for _ in range(self.stage.sizes.cold_loads)]
        return [1000 * _load(engine, ref) for ref in refs]


@dataclass(frozen=True, slots=True)
class Streams:
    """Concurrent decoding streams; half-way through, an adapter is loaded from disk if `disturbed`."""

    name: str
    stage: Stage
    disturbed: bool
    rival: bool = False

    def run(self, number: int) -> list[float]:
        """Return the milliseconds from one token to the next, once per step: all streams advance together."""
        sizes = self.stage.sizes
        prompts = self.stage.prompts(self.name, number, sizes.streams)
        requests = spread_over(prompts, self.stage.shelf.preset(sizes.streams), sizes.stream_tokens)
        return _stream_gaps(self.stage.engine(), requests, _cold(self.stage) if self.disturbed else None)


def measure_alone(stage: Stage, _: Ceilings) -> Measured:
    """Load on an idle engine."""
    series = interleave([ColdLoads(stage)], stage.sizes.few_rounds, stage.say)
    what = "milliseconds to load one adapter from disk (its file just written) to the device, engine idle"
    return Measured(name=ALONE, what=what, unit="ms", series=series)


def measure_disturbance(stage: Stage, _: Ceilings) -> Measured:
    """Run the streams without and with a load, in turn."""
    contenders: list[Contender] = [
        Streams(UNDISTURBED, stage, disturbed=False),
        Streams(DISTURBED, stage, disturbed=True),
    ]
    series = interleave(contenders, stage.sizes.rounds, stage.say)
    what = f"milliseconds between tokens of {stage.sizes.streams} streams with an adapter each"
    return Measured(name=DISTURBANCE, what=what, unit="ms", series=series)


def _cold(stage: Stage) -> AdapterRef:
    return stage.shelf.preset(1, next(_numbers))[0]


def _load(engine: Engine, ref: AdapterRef) -> float:
    began = time.perf_counter()
    engine.load(LoadAdapter(request_id=f"load-{ref.name}", adapter=ref))
    while not any(isinstance(output, AdapterLoaded) for output in engine.step()):
        time.sleep(LOADING_POLL_SECONDS / 10)
    return time.perf_counter() - began


def _stream_gaps(engine: Engine, requests: list[Generate], cold: AdapterRef | None) -> list[float]:
    session = EngineSession(engine)
    for request in requests:
        session.submit(request)
    answers = [session.answers[request.request_id] for request in requests]
    while not all(answer.tokens for answer in answers):
        session.step()
    times = [time.perf_counter()]
    half = min(len(answer.tokens) for answer in answers) + requests[0].sampling.max_tokens // 2
    while not engine.idle:
        if cold is not None and len(answers[0].tokens) >= half:
            session.load(cold)
            cold = None
        before = sum(len(answer.tokens) for answer in answers)
        session.step()
        if sum(len(answer.tokens) for answer in answers) > before:
            times.append(time.perf_counter())
    engine.check_integrity()
    if faults := [answer.failure for answer in answers if answer.failure]:
        raise RuntimeError(faults[0])
    return [1000 * (later - earlier) for earlier, later in itertools.pairwise(times)]
