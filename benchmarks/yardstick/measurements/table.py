"""All measurements by name, in the order in which they run and are shown."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from benchmarks.yardstick.contenders.contender import Measured
from benchmarks.yardstick.contenders.llama_server import llama_version
from benchmarks.yardstick.contenders.vllm_process import vllm_version
from benchmarks.yardstick.floors import Ceilings
from benchmarks.yardstick.measurements import (
    beside_llama,
    beside_vllm,
    classification,
    cold_load,
    constrained,
    fleet,
    long_prompts,
    mixed_work,
    perplexity,
    poisson,
    prefill,
    sampling,
    single,
    speculation,
    throughput,
    wide,
    working_set,
    zipf,
)
from benchmarks.yardstick.stage import Stage


@dataclass(frozen=True, slots=True)
class Measurement:
    """How something is measured. `rival` returns the version of a rival with its own build, None if it is missing."""

    measure: Callable[[Stage, Ceilings], Measured]
    rival: Callable[[], str | None] | None = None

    @property
    def ready(self) -> bool:
        """Whether everything it compares is on this machine."""
        return self.rival is None or self.rival() is not None


MEASUREMENTS: Mapping[str, Measurement] = {
    throughput.NAME: Measurement(throughput.measure),
    sampling.NAME: Measurement(sampling.measure),
    constrained.NAME: Measurement(constrained.measure),
    single.NAME: Measurement(single.measure),
    speculation.NAME: Measurement(speculation.measure),
    prefill.NAME: Measurement(prefill.measure),
    long_prompts.NAME: Measurement(long_prompts.measure),
    wide.NAME: Measurement(wide.measure),
    mixed_work.NAME: Measurement(mixed_work.measure),
    poisson.NAME: Measurement(poisson.measure),
    working_set.NAME: Measurement(working_set.measure),
    zipf.NAME: Measurement(zipf.measure),
    cold_load.ALONE: Measurement(cold_load.measure_alone),
    cold_load.DISTURBANCE: Measurement(cold_load.measure_disturbance),
    classification.NAME: Measurement(classification.measure),
    fleet.NAME: Measurement(fleet.measure),
    fleet.LATENCY: Measurement(fleet.measure_latency),
    perplexity.NAME: Measurement(perplexity.measure),
    beside_vllm.NAME: Measurement(beside_vllm.measure, vllm_version),
    beside_vllm.LORA: Measurement(beside_vllm.measure_lora, vllm_version),
    beside_llama.NAME: Measurement(beside_llama.measure, llama_version),
    beside_llama.SINGLE: Measurement(beside_llama.measure_single, llama_version),
    beside_llama.LONG: Measurement(beside_llama.measure_long, llama_version),
    beside_llama.LORA: Measurement(beside_llama.measure_lora, llama_version),
}
