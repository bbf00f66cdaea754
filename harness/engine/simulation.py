"""An engine on a simulated clock: a step takes a fixed time plus a time per token. Nothing really waits."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from headmix_server.core.messages import Generate, TokenOutput
from headmix_server.core.runner import Batch, RowResult, Sampled
from headmix_server.core.types import SamplingParams
from headmix_server.engine.config import EngineConfig
from headmix_server.engine.fake_runner import FakeRunner
from headmix_server.engine.loop import Engine
from headmix_server.engine.scheduling.virtual_counters import INPUT_COST, OUTPUT_COST

STEP_SECONDS = 0.010
TOKEN_SECONDS = 0.0001


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request: its arrival time, its client, and its size in tokens."""

    at: float
    client: str
    prompt: int
    outputs: int


@dataclass(frozen=True, slots=True)
class Flood:
    """A client that keeps a fixed number of requests open throughout, as far as its quota allows."""

    client: str
    open_requests: int
    prompt: int
    outputs: int


class QuickRunner(FakeRunner):
    """Answers every row that is due with a constant token."""

    def run(self, batch: Batch) -> list[RowResult]:
        """See `Runner.run`."""
        return [RowResult(row.sequence_id, Sampled(7) if row.samples else None) for row in batch.rows]


@dataclass(slots=True)
class Record:
    """The result of a simulation; service is in weighted tokens, by client, after each step."""

    first_token_seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    service: list[dict[str, float]] = field(default_factory=list)
    batches: list[Batch] = field(default_factory=list)
    backlogged: list[set[str]] = field(default_factory=list)


class Simulation:
    """Runs arrivals through an engine. With `one_line`, all clients are one tenant: first come, first served."""

    def __init__(
        self, limits: EngineConfig, *, weights: dict[str, float] | None = None, one_line: bool = False
    ) -> None:
        self.now = 0.0
        self.engine = Engine(QuickRunner(), limits, clock=lambda: self.now)
        self.record = Record()
        self._weights = weights or {}
        self._one_line = one_line
        self._requests: dict[str, Arrival] = {}
        self._served: dict[str, float] = defaultdict(float)
        self._furthest: dict[int, int] = {}
        self._open: Counter[str] = Counter()

    def run(self, arrivals: Iterable[Arrival], until: float, floods: Iterable[Flood] = ()) -> Record:
        """Submit requests as they arrive and step, until the given time or until nothing is left to do."""
        coming = sorted(arrivals, key=lambda arrival: arrival.at)
        place = 0
        while self.now < until:
            while place < len(coming) and coming[place].at <= self.now:
                self._submit(coming[place])
                place += 1
            self._keep_open(floods)
            if self.engine.idle and place == len(coming):
                break
            if not self._step() and place < len(coming):
                self.now = max(self.now, coming[place].at)
        self.engine.close()
        return self.record

    def _keep_open(self, floods: Iterable[Flood]) -> None:
        for flood in floods:
            while self._open[flood.client] < flood.open_requests:
                self._submit(Arrival(self.now, flood.client, flood.prompt, flood.outputs))

    def _submit(self, arrival: Arrival) -> None:
        request_id = str(len(self._requests))
        self._open[arrival.client] += 1
        self._requests[request_id] = arrival
        self.engine.submit(
            Generate(
                request_id=request_id,
                tenant="everybody" if self._one_line else arrival.client,
                prompt=[len(self._requests), *range(arrival.prompt - 1)],
                adapter=None,
                sampling=SamplingParams(max_tokens=arrival.outputs),
                weight=self._weights.get(arrival.client, 1.0),
            )
        )

    def _step(self) -> bool:
        batch = self.engine.begin()
        if batch is None:
            return False
        self.record.backlogged.append({s.tenant for s in self.engine.scheduler.waiting.values()})
        owners = {row.sequence_id: self._owner(row.sequence_id) for row in batch.rows}
        self.now += STEP_SECONDS + TOKEN_SECONDS * batch.num_tokens
        self.engine.finish(self.engine.runner.run(batch))
        self.record.batches.append(batch)
        for row in batch.rows:
            before = max(row.start, self._furthest.get(row.sequence_id, 0))
            end = min(row.end, row.prompt_length)
            self._furthest[row.sequence_id] = max(before, end)
            fresh, sampled = max(0, end - before), int(row.samples)
            self._served[owners[row.sequence_id]] += INPUT_COST * fresh + OUTPUT_COST * sampled
        self.record.service.append(dict(self._served))
        self._take_outputs()
        return True

    def _owner(self, sequence_id: int) -> str:
        return self._requests[self.engine.scheduler.running[sequence_id].request_id].client

    def _take_outputs(self) -> None:
        for output in self.engine.take_outputs():
            if not isinstance(output, TokenOutput):
                continue
            arrival = self._requests[output.request_id]
            if output.finish_reason is not None:
                self._open[arrival.client] -= 1
            if output.queue_seconds is not None:
                self.record.first_token_seconds[arrival.client].append(self.now - arrival.at)
