"""Workload W on vLLM's CPU build and on headmix, in turn: greedy, sampled and with LoRAs.

vLLM has its own environment (`make bench-vllm`) and runs in its own processes, without HTTP, as headmix does here. It
gets every core; a separate row shows its default configuration. Its default for this base's checkpoint is bfloat16.
"""

from collections.abc import Callable
from contextlib import ExitStack

from benchmarks.yardstick.contenders.contender import Contender, Measured, interleave
from benchmarks.yardstick.contenders.in_process import run_all, spread_over
from benchmarks.yardstick.contenders.late_start import LateStart
from benchmarks.yardstick.contenders.vllm_process import VENV, VllmProcess, vllm_environment, vllm_process
from benchmarks.yardstick.floors import Ceilings
from benchmarks.yardstick.measurements.sampling import GREEDY, KINDS, asking
from benchmarks.yardstick.measurements.throughput import Generator
from benchmarks.yardstick.stage import BFLOAT16, FLOAT32, Stage
from headmix_server.core.types import AdapterRef
from headmix_server.engine.loop import Engine

NAME, LORA = "vLLM", "vLLM LoRA"
DEFAULT = BFLOAT16
AS_INSTALLED = "vLLM bfloat16, greedy, cores as it chooses"
LORA_ENABLED, LORAS = "vLLM bfloat16, no adapter, LoRA enabled", "vLLM bfloat16, 16 LoRAs"
OURS_PLAIN, OURS_LORAS = "headmix bfloat16, no adapter", "headmix bfloat16, 16 LoRAs"


def ours(kind: str, dtype: str) -> str:
    """Return headmix's name with requests of a kind."""
    return f"headmix {dtype}, {kind}"


def theirs(kind: str, dtype: str) -> str:
    """Return vLLM's name with requests of a kind."""
    return f"vLLM {dtype}, {kind}"


def measure(stage: Stage, _: Ceilings) -> Measured:
    """Run every kind of request in both formats on both, in turn."""
    sizes, engines = stage.sizes, {form: stage.engine_of(form) for form in (FLOAT32, BFLOAT16)}
    contenders: list[Contender] = []
    with ExitStack() as stack:
        started = {dtype: _late(stage, stack, dtype, dtype) for dtype in engines}
        default_cores = _late(stage, stack, "as-installed", DEFAULT, every_core=False)

        def rival(name: str, vllm: LateStart[VllmProcess], kind: str) -> Contender:
            return _rival(stage, name, lambda prompts: vllm.get().generate(prompts, sizes.output, sampling=KINDS[kind]))

        for dtype, engine in engines.items():
            for kind in KINDS:
                contenders.append(_mine(stage, ours(kind, dtype), engine, kind))
                contenders.append(rival(theirs(kind, dtype), started[dtype], kind))
        contenders.append(rival(AS_INSTALLED, default_cores, GREEDY))
        series = interleave(contenders, sizes.few_rounds, stage.say)
    what = "output tokens a second of workload W, beside vLLM's CPU build, both without HTTP"
    return Measured(name=NAME, what=what, unit="tok/s", series=series)


def measure_lora(stage: Stage, _: Ceilings) -> Measured:
    """Run LoRAs of rank 16 on both, in turn; a round takes vLLM minutes, so there is only one."""
    sizes, refs, engine = stage.sizes, stage.shelf.loras(stage.sizes.many), stage.engine_of(BFLOAT16)
    folders = [str(stage.shelf.as_lora(ref)) for ref in refs]
    each: list[str | None] = [folders[index % len(folders)] for index in range(sizes.requests)]
    with ExitStack() as stack:
        vllm = _late(stage, stack, "lora", DEFAULT, max_loras=sizes.many)
        contenders: list[Contender] = [
            _mine(stage, OURS_PLAIN, engine, GREEDY),
            _mine(stage, OURS_LORAS, engine, GREEDY, refs),
            _rival(stage, LORA_ENABLED, lambda prompts: vllm.get().generate(prompts, sizes.output)),
            _rival(stage, LORAS, lambda prompts: vllm.get().generate(prompts, sizes.output, each)),
        ]
        series = interleave(contenders, sizes.slow_rounds, stage.say)
    what = "output tokens a second of workload W with LoRAs of rank 16, beside vLLM's CPU build, both without HTTP"
    return Measured(name=LORA, what=what, unit="tok/s", series=series)


def _late(
    stage: Stage, stack: ExitStack, name: str, dtype: str, *, every_core: bool = True, max_loras: int = 0
) -> LateStart[VllmProcess]:
    sizes = stage.sizes
    return LateStart(
        stack,
        lambda: vllm_process(
            VENV / "bin/python",
            stage.checkpoint,
            stage.folder / f"vllm-{name}.log",
            dtype=dtype,
            max_model_len=4 * (sizes.prompt + sizes.output),
            max_loras=max_loras,
            env=vllm_environment(every_core=every_core),
        ),
    )


def _mine(stage: Stage, name: str, engine: Engine, kind: str, adapters: list[AdapterRef] | None = None) -> Contender:
    def generate(prompts: list[list[int]]) -> float:
        return run_all(engine, asking(spread_over(prompts, adapters or [], stage.sizes.output), kind))

    return Generator(name, False, stage, generate)


def _rival(stage: Stage, name: str, generate: Callable[[list[list[int]]], float]) -> Contender:
    return Generator(name, True, stage, generate)
