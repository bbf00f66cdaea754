"""Sampling beyond greedy: workload W sampled, and with penalties and log-probabilities, compared with greedy."""

from collections.abc import Mapping, Sequence

import msgspec

from benchmarks.yardstick.contenders.contender import Contender, Measured, interleave
from benchmarks.yardstick.contenders.in_process import run_all, spread_over
from benchmarks.yardstick.floors import Ceilings
from benchmarks.yardstick.measurements.throughput import Generator
from benchmarks.yardstick.stage import FLOAT32, FORMS, NAMES, Stage
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


def ours(kind: str, form: str = FLOAT32) -> str:
    """Return headmix's name with requests of a kind."""
    return f"{NAMES[form]}, {kind}"


def measure(stage: Stage, _: Ceilings) -> Measured:
    """Run every kind on all engines in turn, without adapters."""
    contenders: list[Contender] = [
        _contender(stage, ours(kind, form), stage.engine_of(form), kind) for form in FORMS for kind in KINDS
    ]
    series = interleave(contenders, stage.sizes.rounds, stage.say)
    what = "output tokens a second of workload W by what its requests ask for"
    return Measured(name=NAME, what=what, unit="tok/s", series=series)


def asking(requests: Sequence[Generate], kind: str) -> list[Generate]:
    """Return the requests converted to a kind, each with its own seed."""
    return [
        msgspec.structs.replace(request, sampling=msgspec.structs.replace(request.sampling, seed=seed, **KINDS[kind]))
        for seed, request in enumerate(requests)
    ]


def _contender(stage: Stage, name: str, engine: Engine, kind: str) -> Contender:
    def generate(prompts: list[list[int]]) -> float:
        return run_all(engine, asking(spread_over(prompts, [], stage.sizes.output), kind))

    return Generator(name, False, stage, generate)
