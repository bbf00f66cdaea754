"""Workload W: output tokens per second of 32 requests, 64 prompt and 32 output tokens each, greedy, no early stop."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

from benchmarks.yardstick.contenders.contender import Contender, Measured, interleave
from benchmarks.yardstick.contenders.in_process import run_all, spread_over
from benchmarks.yardstick.contenders.over_http import requester, serve
from benchmarks.yardstick.contenders.rivals import generate_continuous, generate_static, load_peft
from benchmarks.yardstick.contenders.timing import seconds_of
from benchmarks.yardstick.floors import Ceilings, count_weights, generation_floor
from benchmarks.yardstick.stage import BFLOAT16, FLOAT32, INT8, NAMES, Stage, load_transformers
from headmix_server.core.types import AdapterRef
from headmix_server.engine.loop import Engine

NAME = "throughput"
HF, CONTINUOUS = "transformers, static batch", "transformers, continuous batching"


def ours(count: int, form: str = FLOAT32) -> str:
    """Return headmix's name with a number of distinct adapters."""
    return f"{NAMES[form]}, {count} adapters"


def over_http(count: int) -> str:
    """Return headmix's name over HTTP."""
    return f"headmix over HTTP, {count} adapters"


def peft(count: int) -> str:
    """Return the name of PEFT's mixed batch."""
    return f"PEFT mixed batch, {count} adapters"


@dataclass(frozen=True, slots=True)
class Generator:
    """A contender of workload W: `generate` takes the round's prompts and returns its seconds."""

    name: str
    rival: bool
    stage: Stage
    generate: Callable[[list[list[int]]], float]

    def run(self, number: int) -> list[float]:
        """Return output tokens per second."""
        sizes = self.stage.sizes
        return [sizes.requests * sizes.output / self.generate(self.stage.prompts(self.name, number))]


def measure(stage: Stage, ceilings: Ceilings) -> Measured:
    """Run every engine in turn."""
    with ExitStack() as stack:
        contenders = [*_rivals(stage), *_ours(stage), *_ours_over_http(stage, stack)]
        series = interleave(contenders, stage.sizes.rounds, stage.say)
    return Measured(
        name=NAME,
        what="output tokens a second of workload W",
        unit="tok/s",
        series=series,
        floors=_floors(stage, ceilings),
    )


def _rivals(stage: Stage) -> list[Contender]:
    sizes, model = stage.sizes, stage.model
    paged = load_transformers(stage.generator)  # a separate model: continuous batching changes its attention
    folders = [stage.shelf.as_lora(ref) for ref in stage.shelf.preset(sizes.many)]
    mixed = load_peft(load_transformers(stage.generator), folders)
    adapters = [str(index % sizes.many) for index in range(sizes.requests)]

    def contender(name: str, generate: Callable[[list[list[int]]], None]) -> Generator:
        return Generator(name, True, stage, lambda prompts: seconds_of(lambda: generate(prompts)))

    return [
        contender(HF, lambda prompts: generate_static(model, prompts, sizes.output)),
        contender(CONTINUOUS, lambda prompts: generate_continuous(paged, prompts, sizes.output)),
        contender(
            peft(sizes.many), lambda prompts: generate_static(mixed, prompts, sizes.output, adapter_names=adapters)
        ),
    ]


def _ours(stage: Stage) -> list[Contender]:
    sizes, plain = stage.sizes, stage.engine()

    def contender(engine: Engine, name: str, adapters: list[AdapterRef]) -> Generator:
        return Generator(
            name, False, stage, lambda prompts: run_all(engine, spread_over(prompts, adapters, sizes.output))
        )

    return [
        *(contender(plain, ours(count), stage.shelf.preset(count)) for count in sizes.distinct),
        contender(plain, mixed_ranks(sizes.many), stage.shelf.mixed(sizes.many)),
        *(
            contender(stage.engine_of(form), ours(count, form), stage.shelf.preset(count))
            for form in (BFLOAT16, INT8)
            for count in (0, sizes.many)
        ),
    ]


def mixed_ranks(count: int) -> str:
    """Return headmix's name with adapters of different ranks."""
    return f"headmix, {count} adapters of mixed ranks"


def _ours_over_http(stage: Stage, stack: ExitStack) -> list[Contender]:
    sizes, folder = stage.sizes, stage.folder / "served"
    names = stage.shelf.copy(stage.shelf.preset(sizes.many), folder / "adapters")
    server = stack.enter_context(serve(folder, stage.generator_name, folder / "adapters", stage.served(FLOAT32)))
    return [
        Generator(over_http(0), False, stage, requester(server, [stage.generator.name], sizes.output)),
        Generator(over_http(sizes.many), False, stage, requester(server, names, sizes.output)),
    ]


def _floors(stage: Stage, ceilings: Ceilings) -> dict[str, float]:
    """Return the tokens per second that the machine allows, by contender; HTTP and rivals share the same floor."""
    sizes = stage.sizes
    weights = count_weights(stage.generator.folder)
    adapter_weights = stage.shelf.weights_of(stage.shelf.preset(1)[0])

    def rate(count: int, form: str = FLOAT32) -> float:
        seconds = generation_floor(
            ceilings,
            weights,
            requests=sizes.requests,
            prompt=sizes.prompt,
            output=sizes.output,
            adapters=count,
            adapter_weights=adapter_weights,
            form=form,
        )
        return sizes.requests * sizes.output / seconds

    floors = {ours(count): rate(count) for count in sizes.distinct}
    floors |= {ours(count, form): rate(count, form) for form in (BFLOAT16, INT8) for count in (0, sizes.many)}
    floors |= {over_http(count): rate(count) for count in (0, sizes.many)}
    return floors | {HF: rate(0), CONTINUOUS: rate(0), peft(sizes.many): rate(sizes.many)}
