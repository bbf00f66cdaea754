"""Batch size 1: milliseconds from one token to the next of a single request."""

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.yardstick.contenders.contender import Contender, Measured, interleave
from benchmarks.yardstick.contenders.in_process import run_open, spread_over
from benchmarks.yardstick.contenders.rivals import Ticker, generate_static
from benchmarks.yardstick.floors import Ceilings, count_weights, generation_floor
from benchmarks.yardstick.stage import Stage
from headmix_server.core.types import AdapterRef
from headmix_server.engine.loop import Engine

NAME = "batch 1"
HF, OURS, OURS_ADAPTED, OURS_INT8 = "transformers", "headmix", "headmix, 1 adapter", "headmix int8"
OURS_UNPACKED = "headmix, weights unpacked to float32"


@dataclass(frozen=True, slots=True)
class Single:
    """A contender with one request; `times` takes its prompt and returns when each token came, in seconds."""

    name: str
    rival: bool
    stage: Stage
    times: Callable[[list[int]], Sequence[float]]

    def run(self, number: int) -> list[float]:
        """Return the milliseconds between tokens."""
        prompt = self.stage.prompts(self.name, number, count=1)[0]
        return [1000 * (later - earlier) for earlier, later in itertools.pairwise(self.times(prompt))]


def measure(stage: Stage, ceilings: Ceilings) -> Measured:
    """Run transformers and ours, with weights as stored, in float32 and in int8, in turn."""
    adapters = stage.shelf.preset(1)
    plain, unpacked, int8 = stage.engine(), stage.engine(weights="float32"), stage.int8_engine()
    contenders: list[Contender] = [
        Single(HF, True, stage, lambda prompt: _ticks(stage, prompt)),
        Single(OURS, False, stage, lambda prompt: _our_ticks(stage, plain, prompt, [])),
        Single(OURS_ADAPTED, False, stage, lambda prompt: _our_ticks(stage, plain, prompt, adapters)),
        Single(OURS_UNPACKED, False, stage, lambda prompt: _our_ticks(stage, unpacked, prompt, [])),
        Single(OURS_INT8, False, stage, lambda prompt: _our_ticks(stage, int8, prompt, [])),
    ]
    series = interleave(contenders, stage.sizes.rounds, stage.say)
    return Measured(
        name=NAME,
        what="milliseconds from one token to the next, one request alone",
        unit="ms",
        series=series,
        floors=_floors(stage, ceilings),
    )


def _ticks(stage: Stage, prompt: list[int]) -> list[float]:
    ticker = Ticker(time.perf_counter)
    generate_static(stage.model, [prompt], stage.sizes.output, streamer=ticker)
    return ticker.times


def _our_ticks(stage: Stage, engine: Engine, prompt: list[int], adapters: list[AdapterRef]) -> list[float]:
    return run_open(engine, spread_over([prompt], adapters, stage.sizes.output), [0.0])[0].tokens


def _floors(stage: Stage, ceilings: Ceilings) -> dict[str, float]:
    weights = count_weights(stage.generator.folder)
    gguf = stage.generator.gguf
    stored = 4 if gguf is None else gguf.stat().st_size / (weights.layers + weights.head)
    adapter_weights = stage.shelf.weights_of(stage.shelf.preset(1)[0])

    def step(adapters: int = 0, *, int8: bool = False, weight_bytes: float = 4) -> float:
        both = [
            generation_floor(
                ceilings,
                weights,
                requests=1,
                prompt=1,
                output=tokens,
                adapters=adapters,
                adapter_weights=adapter_weights,
                int8=int8,
                weight_bytes=weight_bytes,
            )
            for tokens in (1, 2)
        ]
        return 1000 * (both[1] - both[0])

    ours, adapted = step(weight_bytes=stored), step(1, weight_bytes=stored)
    return {HF: step(), OURS: ours, OURS_ADAPTED: adapted, OURS_UNPACKED: step(), OURS_INT8: step(int8=True)}
