"""Prompts of a thousand tokens: requests per second, from submitting a few at once to their last token."""

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.yardstick.contenders.contender import Contender, Measured, interleave
from benchmarks.yardstick.contenders.in_process import run_all, spread_over
from benchmarks.yardstick.contenders.rivals import generate_static
from benchmarks.yardstick.contenders.timing import seconds_of
from benchmarks.yardstick.floors import Ceilings
from benchmarks.yardstick.stage import FLOAT32, FORMS, NAMES, Stage

NAME = "long prompts"
HF = "transformers, static batch"


def ours(form: str, adapters: int = 0) -> str:
    """Return headmix's name with a number of distinct adapters."""
    return f"{NAMES[form]}, {adapters} adapters"


@dataclass(frozen=True, slots=True)
class LongPrompts:
    """A contender of the long prompts: `generate` takes the round's prompts and returns its seconds."""

    name: str
    rival: bool
    stage: Stage
    generate: Callable[[list[list[int]]], float]

    def run(self, number: int) -> list[float]:
        """Return requests per second."""
        sizes = self.stage.sizes
        prompts = self.stage.prompts(self.name, number, sizes.long_requests, sizes.long_prompt)
        return [sizes.long_requests / self.generate(prompts)]


def described(stage: Stage) -> str:
    """Return the description of the figure."""
    sizes = stage.sizes
    lengths = f"{sizes.long_prompt:,} prompt and {sizes.output} output tokens"
    return f"requests a second, {sizes.long_requests} at once of {lengths}"


def measure(stage: Stage, _: Ceilings) -> Measured:
    """Run transformers and headmix in every form, and float32 with one adapter per request, in turn."""
    sizes = stage.sizes
    adapters = stage.shelf.preset(sizes.long_requests)

    def contender(form: str, count: int) -> Contender:
        engine, refs = stage.engine_of(form), adapters[:count]
        return LongPrompts(
            ours(form, count), False, stage, lambda prompts: run_all(engine, spread_over(prompts, refs, sizes.output))
        )

    contenders: list[Contender] = [
        LongPrompts(
            HF,
            True,
            stage,
            lambda prompts: seconds_of(lambda: generate_static(stage.model, prompts, sizes.output)),
        ),
        *(contender(form, 0) for form in FORMS),
        contender(FLOAT32, sizes.long_requests),
    ]
    series = interleave(contenders, sizes.few_rounds, stage.say)
    return Measured(name=NAME, what=described(stage), unit="requests/s", series=series)
