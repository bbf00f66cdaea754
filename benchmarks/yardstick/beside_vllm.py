"""Workload W on vLLM's CPU build and on ours, in turn (`make bench-vllm`); the last line is one JSON object.

vLLM has its own environment, `.venv-vllm`. Its adapters are the LoRAs that ours equal, all without biases, which
vLLM does not serve. It reserves room for the next rank it allows, 128.
"""

import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console

from benchmarks.yardstick.__main__ import ENCODER, GENERATOR, PAGE, RESULTS, show
from benchmarks.yardstick.contenders.contender import Contender, Measured, interleave
from benchmarks.yardstick.contenders.in_process import run_all, spread_over
from benchmarks.yardstick.contenders.vllm_process import VllmProcess, vllm_process
from benchmarks.yardstick.floors import measure_ceilings
from benchmarks.yardstick.measurements.throughput import NAME, Generator, ours
from benchmarks.yardstick.results.goals import VLLM, reach
from benchmarks.yardstick.results.page import put_figures, render_figures
from benchmarks.yardstick.results.report import Report, append_report, latest, read_reports
from benchmarks.yardstick.sizes import FULL
from benchmarks.yardstick.stage import Stage
from harness.machine import describe_machine
from headmix_server.core.types import AdapterRef

VENV = Path(__file__).parents[2] / ".venv-vllm"
VLLM_AS_INSTALLED = "vLLM, no adapter, cores as it chooses"
VLLM_LORA_ENABLED, VLLM_LORAS = "vLLM, no adapter, LoRA enabled", "vLLM, 16 adapters as LoRA"
CACHE_GIB = 1


def measure(stage: Stage, folder: Path) -> Measured:
    """Run ours and vLLM's, without and with adapters, in turn."""
    sizes = stage.sizes
    refs = stage.shelf.unbiased(sizes.many)
    loras = [str(stage.shelf.as_lora(ref)) for ref in refs]
    engine = stage.engine()
    with ExitStack() as stack:

        def start(name: str, *, every_core: bool = True, max_loras: int = 0) -> VllmProcess:
            return stack.enter_context(
                vllm_process(
                    VENV / "bin/python",
                    stage.generator.folder,
                    folder / f"{name}.log",
                    max_model_len=4 * (sizes.prompt + sizes.output),
                    max_loras=max_loras,
                    env=environment(every_core=every_core),
                )
            )

        plain, adapted = start("plain"), start("lora", max_loras=sizes.many)
        as_installed = start("as-installed", every_core=False)

        def mine(name: str, adapters: list[AdapterRef]) -> Contender:
            return _generator(stage, name, lambda p: run_all(engine, spread_over(p, adapters, sizes.output)))

        nothing: list[str | None] = [None] * sizes.requests
        each: list[str | None] = [loras[index % len(loras)] for index in range(sizes.requests)]
        contenders = [
            mine(ours(0), []),
            mine(ours(sizes.many), refs),
            _generator(stage, VLLM, lambda p: plain.generate(p, sizes.output, nothing), rival=True),
            _generator(stage, VLLM_AS_INSTALLED, lambda p: as_installed.generate(p, sizes.output, nothing), rival=True),
            _generator(stage, VLLM_LORA_ENABLED, lambda p: adapted.generate(p, sizes.output, nothing), rival=True),
            _generator(stage, VLLM_LORAS, lambda p: adapted.generate(p, sizes.output, each), rival=True),
        ]
        series = interleave(contenders, sizes.few_rounds, stage.say)
    what = "output tokens a second of workload W, beside vLLM's CPU build"
    return Measured(name=NAME, what=what, unit="tok/s", series=series)


def _generator(
    stage: Stage, name: str, generate: Callable[[list[list[int]]], float], *, rival: bool = False
) -> Contender:
    return Generator(name, rival, stage, generate)


def environment(*, every_core: bool) -> dict[str, str]:
    """Return what vLLM's documentation asks for on CPU; by itself it would keep one of two cores for its front end."""
    cores = sorted(os.sched_getaffinity(0))
    env = {
        "VLLM_CPU_KVCACHE_SPACE": str(CACHE_GIB),
        **({"VLLM_CPU_OMP_THREADS_BIND": f"{cores[0]}-{cores[-1]}"} if every_core else {}),
        "VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS": "86400",  # it keeps a step in flight, and may stand still for minutes
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
    }
    openmp = VENV / "lib/libiomp5.so"
    return env | ({"LD_PRELOAD": str(openmp)} if openmp.exists() else {})


def vllm_version() -> str:
    """Return the version installed in vLLM's environment."""
    found = next(VENV.glob("lib/python*/site-packages/vllm_cpu-*.dist-info"))
    return found.name.removeprefix("vllm_cpu-").removesuffix(".dist-info")


def main() -> int:
    """Run, keep the run and write the page; returns the exit status."""
    console = Console(stderr=True, width=None if sys.stderr.isatty() else 160)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # vLLM's processes are ended on the way out
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="headmix-bench-") as name:
        folder = Path(name)
        stage = Stage(GENERATOR, ENCODER, folder, FULL, lambda line: console.print(line, highlight=False))
        ceilings = measure_ceilings(FULL.machine_mib, FULL.machine_side)
        measured = measure(stage, folder)
        stage.release()
    report = Report(
        kind="vllm",
        command="make bench-vllm",
        seconds=time.perf_counter() - began,
        machine={**describe_machine(), "vllm": vllm_version()},
        ceilings=ceilings,
        measured=[measured],
    )
    append_report(RESULTS, report)
    reports = read_reports(RESULTS)
    PAGE.write_text(put_figures(PAGE.read_text(), render_figures(reports)))
    show(report, console)
    print(json.dumps({**reach(latest(reports, "bench"), report), "machine": report.machine}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
