"""Sampling beyond greedy: workload W sampled, and with penalties and log-probabilities, next to greedy."""

from collections.abc import Mapping

import msgspec

from benchmarks.yardstick.contenders.contender import Contender, Measured, interleave
from benchmarks.yardstick.contenders.in_process import run_all, spread_over
from benchmarks.yardstick.floors import Ceilings
from benchmarks.yardstick.measurements.throughput import Generator
from benchmarks.yardstick.stage import Stage
from headmix_server.core.messages import Generate
from headmix_server.engine.loop import Engine

NAME = "sampling"
GREEDY, SAMPLED, PENALISED = "greedy", "sampled", "with penalties and log-probabilities"
_SAMPLED: Mapping[str, float] = {"temperature": 0.8, "top_p": 0.95, "top_k": 50}
KINDS: Mapping[str, Mapping[str, float]] = {
    GREEDY: {},
    SAMPLED: _SAMPLED,
    PENALISED: {**_SAMPLED, "frequency_penalty": 0.5, "logprobs": 5},
}


def ours(kind: str, *, int8: bool = False) -> str:
    """Return headmix's name with requests of a kind."""
    return f"headmix{' int8' if int8 else ''}, {kind}"


def measure(stage: Stage, _: Ceilings) -> Measured:
    """Run every kind on both engines in turn, without adapters."""
    engines = {False: stage.engine(), True: stage.int8_engine()}
    contenders: list[Contender] = [
        _contender(stage, engine, kind, int8=int8) for int8, engine in engines.items() for kind in KINDS
    ]
    series = interleave(contenders, stage.sizes.rounds, stage.say)
    what = "output tokens a second of workload W by what its requests ask for"
    return Measured(name=NAME, what=what, unit="tok/s", series=series)


def _contender(stage: Stage, engine: Engine, kind: str, *, int8: bool) -> Contender:
    def generate(prompts: list[list[int]]) -> float:
        requests = spread_over(prompts, [], stage.sizes.output)
        return run_all(engine, [_asking(request, KINDS[kind], seed) for seed, request in enumerate(requests)])

    return Generator(ours(kind, int8=int8), False, stage, generate)


def _asking(request: Generate, kind: Mapping[str, float], seed: int) -> Generate:
    sampling = msgspec.structs.replace(request.sampling, seed=seed, **kind)
    return msgspec.structs.replace(request, sampling=sampling)
