"""More concurrent requests than workload W has: output tokens per second of 64 and of 128."""

from dataclasses import dataclass

from benchmarks.yardstick.contenders.contender import Contender, Measured, interleave
from benchmarks.yardstick.contenders.in_process import run_all, spread_over
from benchmarks.yardstick.floors import Ceilings
from benchmarks.yardstick.stage import FLOAT32, FORMS, NAMES, Stage
from headmix_server.core.types import AdapterRef
from headmix_server.engine.loop import Engine

NAME = "wide batches"


def ours(requests: int, form: str, adapters: int = 0) -> str:
    """Return headmix's name with a number of requests and of distinct adapters."""
    return f"{NAMES[form]}, {requests} requests, {adapters} adapters"


@dataclass(frozen=True, slots=True)
class Wide:
    """An engine with a number of requests that all come at once, spread over adapters."""

    name: str
    stage: Stage
    engine: Engine
    requests: int
    adapters: list[AdapterRef]
    rival: bool = False

    def run(self, number: int) -> list[float]:
        """Return output tokens per second."""
        output = self.stage.sizes.output
        prompts = self.stage.prompts(self.name, number, self.requests)
        return [self.requests * output / run_all(self.engine, spread_over(prompts, self.adapters, output))]


def measure(stage: Stage, _: Ceilings) -> Measured:
    """Run every form of the base without adapters, and float32 with many, in turn."""
    sizes, many = stage.sizes, stage.shelf.preset(stage.sizes.many)
    contenders: list[Contender] = []
    for requests in sizes.wide:
        contenders += [Wide(ours(requests, form), stage, stage.engine_of(form), requests, []) for form in FORMS]
        contenders.append(Wide(ours(requests, FLOAT32, len(many)), stage, stage.engine(), requests, many))
    series = interleave(contenders, sizes.few_rounds, stage.say)
    what = "output tokens a second of more requests at once, each of workload W's lengths"
    return Measured(name=NAME, what=what, unit="tok/s", series=series)
