"""Time to first token of requests of workload W's sizes with Poisson arrivals, at shares of the measured capacity."""

from dataclasses import dataclass

from benchmarks.yardstick.contenders.arrivals import measure_capacity, poisson_arrivals
from benchmarks.yardstick.contenders.contender import Contender, Measured, interleave
from benchmarks.yardstick.contenders.in_process import run_open, spread_over
from benchmarks.yardstick.floors import Ceilings
from benchmarks.yardstick.stage import Stage
from headmix_server.core.types import AdapterRef
from headmix_server.engine.loop import Engine

NAME = "first token"


@dataclass(frozen=True, slots=True)
class Arriving:
    """Requests that arrive at a rate (per second) and are spread over adapters."""

    name: str
    stage: Stage
    engine: Engine
    adapters: list[AdapterRef]
    rate: float
    rival: bool = False

    def run(self, number: int) -> list[float]:
        """Return the milliseconds to the first token of every request."""
        sizes = self.stage.sizes
        requests = spread_over(self.stage.prompts(self.name, number, sizes.arrivals), self.adapters, sizes.output)
        arrivals = poisson_arrivals(sizes.arrivals, self.rate, seed=number)
        return [1000 * timed.first_token for timed in run_open(self.engine, requests, arrivals)]


def measure(stage: Stage, _: Ceilings) -> Measured:
    """Run headmix without and with adapters, at each load, in turn; arrival times are the same for both."""
    engine, many = stage.engine(), stage.shelf.preset(stage.sizes.many)
    capacity = measure_capacity(stage, engine, many)
    contenders: list[Contender] = [
        Arriving(f"headmix, {len(adapters)} adapters, {load:.0%} load", stage, engine, adapters, load * capacity)
        for load in stage.sizes.loads
        for adapters in ([], many)
    ]
    series = interleave(contenders, stage.sizes.few_rounds, stage.say)
    what = f"milliseconds to the first token; Poisson arrivals, 100 % is {capacity:.2g} requests a second"
    return Measured(name=NAME, what=what, unit="ms", series=series)
