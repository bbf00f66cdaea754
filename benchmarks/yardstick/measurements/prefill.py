"""Prefill alone: prompt tokens per second of long prompts with a single output token."""

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.yardstick.contenders.contender import Contender, Measured, interleave
from benchmarks.yardstick.contenders.in_process import run_all, spread_over
from benchmarks.yardstick.contenders.rivals import generate_static
from benchmarks.yardstick.contenders.timing import seconds_of
from benchmarks.yardstick.floors import Ceilings, count_weights, generation_floor
from benchmarks.yardstick.stage import BFLOAT16, FLOAT32, INT8, Stage
from headmix_server.core.types import AdapterRef
from headmix_server.engine.loop import Engine

NAME = "prefill"
HF, OURS, OURS_ADAPTED = "transformers", "headmix", "headmix, an adapter each"
OURS_BFLOAT16, OURS_INT8 = "headmix bfloat16", "headmix int8"


@dataclass(frozen=True, slots=True)
class Prefill:
    """A contender that reads prompts; `read` takes them and returns its seconds."""

    name: str
    rival: bool
    stage: Stage
    read: Callable[[list[list[int]]], float]

    def run(self, number: int) -> list[float]:
        """Return prompt tokens per second."""
        sizes = self.stage.sizes
        prompts = self.stage.prompts(self.name, number, sizes.prefill_requests, sizes.prefill_prompt)
        return [sizes.prefill_requests * sizes.prefill_prompt / self.read(prompts)]


def measure(stage: Stage, ceilings: Ceilings) -> Measured:
    """Run transformers and headmix, without and with adapters, in turn."""
    adapters = stage.shelf.preset(stage.sizes.prefill_requests)
    plain = stage.engine()

    def ours(name: str, engine: Engine, refs: list[AdapterRef]) -> Contender:
        return Prefill(name, False, stage, lambda prompts: run_all(engine, spread_over(prompts, refs, 1)))

    contenders: list[Contender] = [
        Prefill(HF, True, stage, lambda prompts: seconds_of(lambda: generate_static(stage.model, prompts, 1))),
        ours(OURS, plain, []),
        ours(OURS_ADAPTED, plain, adapters),
        ours(OURS_BFLOAT16, stage.engine_of(BFLOAT16), []),
        ours(OURS_INT8, stage.engine_of(INT8), []),
    ]
    series = interleave(contenders, stage.sizes.rounds, stage.say)
    what = f"prompt tokens a second, {stage.sizes.prefill_requests} prompts of {stage.sizes.prefill_prompt} tokens"
    return Measured(name=NAME, what=what, unit="tok/s", series=series, floors=_floors(stage, ceilings))


def _floors(stage: Stage, ceilings: Ceilings) -> dict[str, float]:
    sizes, weights = stage.sizes, count_weights(stage.generator.folder)
    adapter_weights = stage.shelf.weights_of(stage.shelf.preset(1)[0])

    def rate(adapters: int = 0, form: str = FLOAT32) -> float:
        seconds = generation_floor(
            ceilings,
            weights,
            requests=sizes.prefill_requests,
            prompt=sizes.prefill_prompt,
            output=1,
            adapters=adapters,
            adapter_weights=adapter_weights,
            form=form,
        )
        return sizes.prefill_requests * sizes.prefill_prompt / seconds

    plain = {HF: rate(), OURS: rate(), OURS_ADAPTED: rate(sizes.prefill_requests)}
    return plain | {OURS_BFLOAT16: rate(form=BFLOAT16), OURS_INT8: rate(form=INT8)}
