"""Random requests: Poisson arrivals at a share of the capacity, and adapters chosen by Zipf's law."""

import random
from collections.abc import Sequence

from benchmarks.yardstick.contenders.in_process import run_all, spread_over
from benchmarks.yardstick.stage import Stage
from headmix_server.core.types import AdapterRef
from headmix_server.engine.loop import Engine


def measure_capacity(stage: Stage, engine: Engine, adapters: Sequence[AdapterRef]) -> float:
    """Return the requests of workload W per second that the engine completes if all come at once; the better of two."""
    sizes = stage.sizes
    seconds = [run_all(engine, spread_over(stage.prompts("capacity", turn), adapters, sizes.output)) for turn in (0, 1)]
    return sizes.requests / min(seconds)


def poisson_arrivals(count: int, rate: float, seed: int) -> list[float]:
    """Return ascending arrival times in seconds, at an average of `rate` per second."""
    chance = random.Random(seed)
    times, now = [], 0.0
    for _ in range(count):
        now += chance.expovariate(rate)
        times.append(now)
    return times


def zipf_choices(population: int, count: int, seed: int) -> list[int]:
    """Return `count` numbers below `population`; number k has a probability proportional to 1 / (k + 1)."""
    weights = [1 / (rank + 1) for rank in range(population)]
    return random.Random(seed).choices(range(population), weights, k=count)
