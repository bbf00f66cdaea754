"""The goals of the yardstick: a key each, how it follows from what was measured, and what it should reach."""

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.yardstick.contenders.contender import Series
from benchmarks.yardstick.measurements import cold_load, perplexity, sampling, single, throughput, working_set, zipf
from benchmarks.yardstick.results.report import Report
from benchmarks.yardstick.results.spread import ratio, tail_ratio

MANY = 16
VLLM = "vLLM, no adapter"


@dataclass(frozen=True, slots=True)
class Goal:
    """`value` returns None where what it needs was not measured. `least` and `most` bound it, where they are given."""

    key: str
    what: str
    value: Callable[[Report], float | None]
    least: float | None = None
    most: float | None = None
    kind: str = "bench"

    def met(self, value: float) -> bool:
        """Whether a value is within the bounds."""
        return (self.least is None or value >= self.least) and (self.most is None or value <= self.most)


def _series(report: Report, measurement: str, contender: str) -> Series | None:
    measured = report.find(measurement)
    return None if measured is None else measured.find(contender)


def _rates(over: str, under: str) -> Callable[[Report], float | None]:
    return lambda report: ratio(_series(report, throughput.NAME, over), _series(report, throughput.NAME, under))


def _over_greedy(kind: str, *, int8: bool = False) -> Callable[[Report], float | None]:
    return lambda report: ratio(
        _series(report, sampling.NAME, sampling.ours(kind, int8=int8)),
        _series(report, sampling.NAME, sampling.ours(sampling.GREEDY, int8=int8)),
    )


def _batch1(ours: str) -> Callable[[Report], float | None]:
    return lambda report: ratio(_series(report, single.NAME, single.HF), _series(report, single.NAME, ours))


GOALS = (
    Goal(
        "ours16_over_ours0",
        "headmix with 16 distinct adapters over headmix without adapters",
        _rates(throughput.ours(MANY), throughput.ours(0)),
        least=0.85,
    ),
    Goal(
        "ours16_over_peft16",
        "headmix over PEFT's mixed batch, 16 distinct adapters",
        _rates(throughput.ours(MANY), throughput.peft(MANY)),
        least=3.3,
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
        _over_greedy(sampling.SAMPLED),
        least=0.95,
    ),
    Goal(
        "sampled_over_greedy_int8",
        "sampled over greedy requests, int8",
        _over_greedy(sampling.SAMPLED, int8=True),
        least=0.92,
    ),
    Goal(
        "penalties_logprobs_over_greedy",
        "sampled, penalised, with 5 log-probabilities, over greedy, float32",
        _over_greedy(sampling.PENALISED),
        least=0.90,
    ),
    Goal(
        "penalties_logprobs_over_greedy_int8",
        "sampled, penalised, with 5 log-probabilities, over greedy, int8",
        _over_greedy(sampling.PENALISED, int8=True),
        least=0.85,
    ),
    Goal(
        "ours0_over_vllm",
        "headmix without adapters over vLLM's CPU build",
        _rates(throughput.ours(0), VLLM),
        least=2,
        kind="vllm",
    ),
    Goal("bs1_over_hf", "batch 1 decode over transformers'", _batch1(single.OURS), least=2),
    Goal(
        "bs1_stored_over_float32",
        "batch 1 decode, weights as stored, over weights unpacked to float32",
        lambda report: ratio(
            _series(report, single.NAME, single.OURS_UNPACKED), _series(report, single.NAME, single.OURS)
        ),
        least=1.8,
    ),
    Goal("bs1_int8_over_hf", "batch 1 decode, int8 base, over transformers'", _batch1(single.OURS_INT8), least=4),
    Goal(
        "ours16_int8_over_peft16",
        "headmix on an int8 base over PEFT's mixed batch, 16 distinct adapters",
        _rates(throughput.ours(MANY, int8=True), throughput.peft(MANY)),
        least=6,
    ),
    Goal(
        "int8_ppl_ratio",
        "perplexity of the int8 base over float32's, on a real text",
        lambda report: ratio(
            _series(report, perplexity.NAME, perplexity.OURS_INT8), _series(report, perplexity.NAME, perplexity.OURS)
        ),
        most=1.01,
    ),
    Goal(
        "http_over_inprocess",
        "32 streams over HTTP over in process, no adapters",
        _rates(throughput.over_http(0), throughput.ours(0)),
        least=0.95,
    ),
    Goal(
        "zipf1000_over_resident16",
        "1,000 registered adapters by Zipf's law on 32 slots over 16 resident ones",
        lambda report: ratio(_series(report, zipf.NAME, zipf.ZIPF), _series(report, zipf.NAME, zipf.RESIDENT)),
        least=0.85,
    ),
    Goal(
        "ttft_2x_slots",
        "median time to first token with twice as many adapters as slots, over as many as slots",
        lambda report: ratio(
            _series(report, working_set.NAME, working_set.TWICE),
            _series(report, working_set.NAME, working_set.RESIDENT),
        ),
        most=3,
    ),
    Goal(
        "itl_p99_cold_load",
        "p99 inter-token latency of 16 streams during a cold load over undisturbed",
        lambda report: tail_ratio(
            _series(report, cold_load.DISTURBANCE, cold_load.DISTURBED),
            _series(report, cold_load.DISTURBANCE, cold_load.UNDISTURBED),
            99,
        ),
        most=1.2,
    ),
)


def reach(bench: Report | None, vllm: Report | None) -> dict[str, float | None]:
    """Return every goal's value to three digits after the point; None if it was not measured."""
    reports = {"bench": bench, "vllm": vllm}
    values: dict[str, float | None] = {}
    for goal in GOALS:
        report = reports[goal.kind]
        value = None if report is None else goal.value(report)
        values[goal.key] = None if value is None else round(value, 3)
    return values
