"""The goals of the yardstick: for each a key, how to compute it from the measurements, and what it should reach."""

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.yardstick.contenders.contender import Series
from benchmarks.yardstick.contenders.llama_files import Format
from benchmarks.yardstick.measurements import (
    beside_llama,
    beside_vllm,
    cold_load,
    constrained,
    perplexity,
    sampling,
    single,
    speculation,
    throughput,
    working_set,
    zipf,
)
from benchmarks.yardstick.results.report import Runs
from benchmarks.yardstick.results.spread import floor_share, median_of, ratio, tail_ratio
from benchmarks.yardstick.stage import BFLOAT16, FLOAT32, INT8, NAMES

MANY = 16

Value = Callable[[Runs], float | None]
"""Computes a goal's value; None if a measurement that it needs is missing."""


@dataclass(frozen=True, slots=True)
class Goal:
    """A figure to reach. `least` and `most` bound it, if given."""

    key: str
    what: str
    value: Value
    least: float | None = None
    most: float | None = None

    def met(self, value: float) -> bool:
        """Whether a value is within the bounds."""
        return (self.least is None or value >= self.least) and (self.most is None or value <= self.most)


def _over(measurement: str, over: str, under: str) -> Value:
    """Return the ratio of two contenders' medians."""
    return lambda runs: ratio(runs.series(measurement, over), runs.series(measurement, under))


def _rates(over: str, under: str) -> Value:
    return _over(throughput.NAME, over, under)


def _sampled(kind: str, form: str) -> Value:
    return _over(sampling.NAME, sampling.ours(kind, form), sampling.ours(sampling.GREEDY, form))


def _guessing(task: str) -> Value:
    return _over(speculation.NAME, speculation.ours(task, guessing=True), speculation.ours(task, guessing=False))


def _batch1(ours: str) -> Value:
    return _over(single.NAME, single.HF, ours)


def _vllm(kind: str, dtype: str) -> Value:
    return _over(beside_vllm.NAME, beside_vllm.ours(kind, dtype), beside_vllm.theirs(kind, dtype))


def _llama(form: str, theirs: Format) -> Value:
    return _over(beside_llama.NAME, NAMES[form], beside_llama.theirs(theirs))


def _llama_alone(form: str, theirs: Format) -> Value:
    return _over(beside_llama.SINGLE, beside_llama.theirs(theirs), NAMES[form])


def _llama_lora(runs: Runs) -> float | None:
    """Return headmix's rate with LoRAs over the better of llama.cpp's."""
    theirs = [runs.series(beside_llama.LORA, beside_llama.theirs_lora(kind)) for kind in beside_llama.LORA_FORMATS]
    ran: list[Series] = [series for series in theirs if series is not None]
    ours = runs.series(beside_llama.LORA, beside_llama.OURS_LORAS)
    return ratio(ours, max(ran, key=median_of, default=None))


def _floor(measurement: str, ours: str) -> Value:
    return lambda runs: floor_share(runs.find(measurement), ours)


GOALS = (
    Goal(
        "ours16_over_ours0",
        "headmix with 16 distinct adapters over headmix without adapters, float32",
        _rates(throughput.ours(MANY), throughput.ours(0)),
        least=0.95,
    ),
    Goal(
        "ours16_over_ours0_bf16",
        "headmix with 16 distinct adapters over headmix without adapters, bfloat16",
        _rates(throughput.ours(MANY, BFLOAT16), throughput.ours(0, BFLOAT16)),
        least=0.95,
    ),
    Goal(
        "ours16_over_ours0_int8",
        "headmix with 16 distinct adapters over headmix without adapters, int8",
        _rates(throughput.ours(MANY, INT8), throughput.ours(0, INT8)),
        least=0.93,
    ),
    Goal(
        "ours16_over_peft16",
        "headmix over PEFT's mixed batch, 16 distinct adapters",
        _rates(throughput.ours(MANY), throughput.peft(MANY)),
        least=3.3,
    ),
    Goal(
        "ours16_int8_over_peft16",
        "headmix on an int8 base over PEFT's mixed batch, 16 distinct adapters",
        _rates(throughput.ours(MANY, INT8), throughput.peft(MANY)),
        least=6,
    ),
    Goal(
        "ours0_over_hf",
        "headmix without adapters over transformers' static batch",
        _rates(throughput.ours(0), throughput.HF),
        least=1.6,
    ),
    Goal(
        "sampled_over_greedy",
        "sampled (0.8, top-p 0.95, top-k 50) over greedy requests, float32",
        _sampled(sampling.SAMPLED, FLOAT32),
        least=0.95,
    ),
    Goal(
        "sampled_over_greedy_int8",
        "sampled over greedy requests, int8",
        _sampled(sampling.SAMPLED, INT8),
        least=0.92,
    ),
    Goal(
        "penalties_logprobs_over_greedy",
        "sampled, penalised, with 5 log-probabilities, over greedy, float32",
        _sampled(sampling.PENALISED, FLOAT32),
        least=0.90,
    ),
    Goal(
        "penalties_logprobs_over_greedy_int8",
        "sampled, penalised, with 5 log-probabilities, over greedy, int8",
        _sampled(sampling.PENALISED, INT8),
        least=0.85,
    ),
    Goal(
        "constrained_over_free",
        "16 requests bound to a schema beside 16 free ones, over 32 free ones, float32",
        _over(constrained.NAME, constrained.ours(constrained.HALF_BOUND), constrained.ours(constrained.FREE)),
        least=0.92,
    ),
    Goal(
        "int8_share_of_floor",
        "share of the int8 floor that 32 requests reach",
        _floor(throughput.NAME, throughput.ours(0, INT8)),
        least=0.55,
    ),
    Goal(
        "int8_share_of_floor_bs1",
        "share of the int8 floor that one request reaches",
        _floor(single.NAME, single.OURS_INT8),
        least=0.65,
    ),
    Goal(
        "ours0_over_vllm",
        "headmix over vLLM's CPU build, both in float32, greedy",
        _vllm(sampling.GREEDY, FLOAT32),
        least=2,
    ),
    Goal(
        "bf16_over_vllm_default",
        "headmix over vLLM's CPU build, both in its default, bfloat16, greedy",
        _vllm(sampling.GREEDY, BFLOAT16),
        least=1.25,
    ),
    Goal(
        "bf16_over_vllm_default_sampled",
        "headmix over vLLM's CPU build, both in its default, bfloat16, sampled",
        _vllm(sampling.SAMPLED, BFLOAT16),
        least=1.6,
    ),
    Goal(
        "q4_over_llama_bs1",
        "one request: headmix over llama.cpp, the same Q4_1 file",
        _llama_alone(FLOAT32, "Q4_1"),
        least=1.1,
    ),
    Goal(
        "bf16_over_llama_bs1",
        "one request: headmix over llama.cpp, both in bfloat16",
        _llama_alone(BFLOAT16, "BF16"),
        least=1.1,
    ),
    Goal(
        "int8_over_llama_bs1",
        "one request: headmix in int8 over llama.cpp in Q8_0",
        _llama_alone(INT8, "Q8_0"),
        least=1.1,
    ),
    Goal(
        "q4_over_llama32",
        "32 requests: headmix over llama.cpp, the same Q4_1 file, both over HTTP",
        _llama(FLOAT32, "Q4_1"),
        least=3,
    ),
    Goal(
        "bf16_over_llama32",
        "32 requests: headmix over llama.cpp, both in bfloat16 over HTTP",
        _llama(BFLOAT16, "BF16"),
        least=2,
    ),
    Goal(
        "int8_over_llama32",
        "32 requests: headmix in int8 over llama.cpp in Q8_0, both over HTTP",
        _llama(INT8, "Q8_0"),
        least=4,
    ),
    Goal("lora16_over_llama", "16 LoRAs: headmix over the faster of llama.cpp's formats", _llama_lora, least=5),
    Goal("bs1_over_hf", "batch 1 decode over transformers'", _batch1(single.OURS), least=2),
    Goal(
        "bs1_stored_over_float32",
        "batch 1 decode, weights as stored, over weights unpacked to float32",
        _over(single.NAME, single.OURS_UNPACKED, single.OURS),
        least=1.8,
    ),
    Goal("bs1_int8_over_hf", "batch 1 decode, int8 base, over transformers'", _batch1(single.OURS_INT8), least=4),
    Goal(
        "int8_ppl_ratio",
        "perplexity of the int8 base over float32's, on a real text",
        _over(perplexity.NAME, perplexity.OURS_INT8, perplexity.OURS),
        most=1.01,
    ),
    Goal(
        "speculation_copy",
        "a text copied by one request alone, tokens guessed ahead over none",
        _guessing(speculation.COPY),
        least=1.5,
    ),
    Goal(
        "speculation_chat",
        "a chat by one request alone, tokens guessed ahead over none",
        _guessing(speculation.CHAT),
        least=0.97,
    ),
    Goal(
        "speculation_32",
        "32 chats at once, tokens guessed ahead over none",
        _guessing(speculation.MANY),
        least=0.97,
    ),
    Goal(
        "http_over_inprocess",
        "32 streams over HTTP over in process, no adapters",
        _rates(throughput.over_http(0), throughput.ours(0)),
        least=0.96,
    ),
    Goal(
        "zipf1000_over_resident16",
        "1,000 registered adapters by Zipf's law on 32 slots over 16 resident ones",
        _over(zipf.NAME, zipf.by_zipf(1_000), zipf.RESIDENT),
        least=0.85,
    ),
    Goal(
        "ttft_2x_slots",
        "median time to first token with twice as many adapters as slots, over as many as slots",
        _over(working_set.NAME, working_set.TWICE, working_set.RESIDENT),
        most=3,
    ),
    Goal(
        "itl_p99_cold_load",
        "p99 inter-token latency of 16 streams during a cold load over undisturbed",
        lambda runs: tail_ratio(
            runs.series(cold_load.DISTURBANCE, cold_load.DISTURBED),
            runs.series(cold_load.DISTURBANCE, cold_load.UNDISTURBED),
            99,
        ),
        most=1.2,
    ),
)


def reach(runs: Runs) -> dict[str, float | None]:
    """Return every goal's value to three decimal places; None if it was not measured."""
    values = {goal.key: goal.value(runs) for goal in GOALS}
    return {key: None if value is None else round(value, 3) for key, value in values.items()}
