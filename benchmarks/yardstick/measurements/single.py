"""Batch size 1: milliseconds from one token to the next of a single request."""

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.yardstick.contenders.contender import Contender, Measured, interleave
from benchmarks.yardstick.contenders.in_process import run_open, spread_over
from benchmarks.yardstick.contenders.rivals import Ticker, generate_static
from benchmarks.yardstick.floors import Ceilings, count_weights, generation_floor
from benchmarks.yardstick.stage import BFLOAT16, FLOAT32, INT8, NAMES, Stage
from headmix_server.core.types import AdapterRef
from headmix_server.engine.loop import Engine

NAME = "batch 1"
HF, OURS, OURS_ADAPTED = "transformers", "headmix", "headmix, 1 adapter"
OURS_BFLOAT16, OURS_INT8 = NAMES[BFLOAT16], NAMES[INT8]
OURS_UNPACKED = "headmix, weights unpacked to float32"


@dataclass(frozen=True, slots=True)
class Single:
    """A contender with one request; `gaps` takes its prompt and returns the milliseconds between tokens."""

    name: str
    rival: bool
    stage: Stage
    gaps: Callable[[list[int]], list[float]]

    def run(self, number: int) -> list[float]:
        """Return the milliseconds between tokens."""
        return self.gaps(self.stage.prompts(self.name, number, count=1)[0])


def measure(stage: Stage, ceilings: Ceilings) -> Measured:
    """Run transformers and headmix, with weights as stored, as float32, in bfloat16 and in int8, in turn."""
    plain = stage.engine()
    contenders: list[Contender] = [
        Single(HF, True, stage, lambda prompt: _transformers(stage, prompt)),
        ours(stage, OURS, plain),
        ours(stage, OURS_ADAPTED, plain, stage.shelf.preset(1)),
        ours(stage, OURS_UNPACKED, stage.engine(weights="float32")),
        ours(stage, OURS_BFLOAT16, stage.engine_of(BFLOAT16)),
        ours(stage, OURS_INT8, stage.engine_of(INT8)),
    ]
    series = interleave(contenders, stage.sizes.rounds, stage.say)
    return Measured(
        name=NAME,
        what="milliseconds from one token to the next, one request alone",
        unit="ms",
        series=series,
        floors=_floors(stage, ceilings),
    )


def ours(stage: Stage, name: str, engine: Engine, adapters: Sequence[AdapterRef] = ()) -> Single:
    """Return an engine as a contender."""

    def gaps(prompt: list[int]) -> list[float]:
        return _gaps(run_open(engine, spread_over([prompt], adapters, stage.sizes.output), [0.0])[0].tokens)

    return Single(name, False, stage, gaps)


def _transformers(stage: Stage, prompt: list[int]) -> list[float]:
    ticker = Ticker(time.perf_counter)
    generate_static(stage.model, [prompt], stage.sizes.output, streamer=ticker)
    return _gaps(ticker.times)


def _gaps(times: Sequence[float]) -> list[float]:
    return [1000 * (later - earlier) for earlier, later in itertools.pairwise(times)]


def _floors(stage: Stage, ceilings: Ceilings) -> dict[str, float]:
    weights = count_weights(stage.generator.folder)
    gguf = stage.generator.gguf
    stored = 4 if gguf is None else gguf.stat().st_size / (weights.layers + weights.head)
    adapter_weights = stage.shelf.weights_of(stage.shelf.preset(1)[0])

    def step(adapters: int = 0, form: str = FLOAT32, weight_bytes: float | None = None) -> float:
        both = [
            generation_floor(
                ceilings,
                weights,
                requests=1,
                prompt=1,
                output=tokens,
                adapters=adapters,
                adapter_weights=adapter_weights,
                form=form,
                weight_bytes=weight_bytes,
            )
            for tokens in (1, 2)
        ]
        return 1000 * (both[1] - both[0])

    as_stored = {OURS: step(weight_bytes=stored), OURS_ADAPTED: step(1, weight_bytes=stored)}
    return as_stored | {
        HF: step(),
        OURS_UNPACKED: step(),
        OURS_BFLOAT16: step(form=BFLOAT16),
        OURS_INT8: step(form=INT8),
    }
