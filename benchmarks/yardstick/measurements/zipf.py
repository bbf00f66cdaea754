"""Thousands of adapters, few of them popular, compared with a few that are all on the device."""

import functools
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.yardstick.contenders.arrivals import zipf_choices
from benchmarks.yardstick.contenders.contender import Contender, Measured, interleave
from benchmarks.yardstick.contenders.in_process import greedy, run_closed
from benchmarks.yardstick.floors import Ceilings
from benchmarks.yardstick.stage import Stage
from headmix_server.core.types import AdapterRef

NAME = "zipf"
RESIDENT = "headmix, all adapters resident"


def by_zipf(registered: int) -> str:
    """Return headmix's name with adapters chosen by Zipf's law."""
    return f"headmix, {registered:,} adapters by Zipf's law"


@dataclass(frozen=True, slots=True)
class Choosing:
    """As many open requests as workload W has, each with the adapter that `choose` returns for the round."""

    name: str
    stage: Stage
    choose: Callable[[int], list[AdapterRef]]
    rival: bool = False

    def run(self, number: int) -> list[float]:
        """Return output tokens per second."""
        sizes = self.stage.sizes
        prompts = self.stage.prompts(self.name, number, sizes.zipf_requests)
        chosen = self.choose(number)  # creates their files, so that the adapters exist before the first request
        requests = [greedy(prompt, ref, sizes.output) for prompt, ref in zip(prompts, chosen, strict=True)]
        seconds = run_closed(self.stage.engine(), requests, sizes.requests)
        return [sizes.zipf_requests * sizes.output / seconds]


def measure(stage: Stage, _: Ceilings) -> Measured:
    """Run all in turn. An adapter is on the device, in host memory or on disk, wherever earlier rounds left it."""
    sizes, shelf, engine = stage.sizes, stage.shelf, stage.engine()
    resident = shelf.preset(sizes.many)

    def chosen(registered: int, number: int) -> list[AdapterRef]:
        choices = zipf_choices(registered, sizes.zipf_requests, seed=number)
        return [shelf.preset(1, first)[0] for first in choices]

    contenders: list[Contender] = [
        Choosing(RESIDENT, stage, lambda _: [resident[i % len(resident)] for i in range(sizes.zipf_requests)]),
        *(Choosing(by_zipf(count), stage, functools.partial(chosen, count)) for count in sizes.registered),
    ]
    series = interleave(contenders, sizes.few_rounds, stage.say)
    slots = f"{sizes.many} adapters resident, or more registered than the {engine.limits.adapter_slots} slots"
    what = f"output tokens a second, {sizes.requests} requests open: {slots}"
    return Measured(name=NAME, what=what, unit="tok/s", series=series)
