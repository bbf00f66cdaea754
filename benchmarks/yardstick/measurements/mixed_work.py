"""Classification and generation in one batch, compared with one after the other."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.yardstick.contenders.contender import Contender, Measured, interleave
from benchmarks.yardstick.contenders.in_process import Work, run_all, spread_over
from benchmarks.yardstick.floors import Ceilings
from benchmarks.yardstick.measurements.classification import classify_each, random_texts
from benchmarks.yardstick.stage import Stage

NAME = "mixed batch"
SEPARATE, TOGETHER = "headmix, one kind after the other", "headmix, both kinds in one batch"


@dataclass(frozen=True, slots=True)
class Mixed:
    """Both kinds of work; `seconds` takes the generations and the classifications of a round and runs them."""

    name: str
    stage: Stage
    seconds: Callable[[Sequence[Work], Sequence[Work]], float]
    rival: bool = False

    def run(self, number: int) -> list[float]:
        """Return requests of both kinds per second."""
        shelf, sizes = self.stage.shelf, self.stage.sizes
        generations = spread_over(self.stage.prompts(self.name, number), shelf.preset(sizes.many), sizes.output)
        texts = random_texts(self.stage, shelf.vocabulary, number)
        classifications = classify_each(texts, shelf.classifiers(sizes.many))
        return [(len(generations) + len(texts)) / self.seconds(generations, classifications)]


def measure(stage: Stage, _: Ceilings) -> Measured:
    """Run the same work in both ways, in turn."""
    engine = stage.engine(adapter_slots=2 * stage.sizes.many)
    contenders: list[Contender] = [
        Mixed(SEPARATE, stage, lambda generations, texts: run_all(engine, generations) + run_all(engine, texts)),
        Mixed(TOGETHER, stage, lambda generations, texts: run_all(engine, _alternating(generations, texts))),
    ]
    series = interleave(contenders, stage.sizes.few_rounds, stage.say)
    sizes = stage.sizes
    what = (
        f"requests a second: workload W's {sizes.requests} over {sizes.many} adapters, and {sizes.texts} texts for "
        f"{sizes.many} classifiers on the same base"
    )
    return Measured(name=NAME, what=what, unit="requests/s", series=series)


def _alternating(first: Sequence[Work], second: Sequence[Work]) -> list[Work]:
    pairs = itertools.zip_longest(first, second)
    return [request for pair in pairs for request in pair if request is not None]
