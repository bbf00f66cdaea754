"""The size of each measurement: the full run, and a quick one that shows in seconds that everything works."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Counts, lengths in tokens and rounds of all measurements.

    Workload W is `requests` requests of `prompt` and `output` tokens. `loads` and `half_load` are shares of the
    measured capacity at which Poisson arrivals come. `registered` adapters and `classifiers` are chosen by Zipf's law,
    `classified` texts per round with `open_texts` at once. `settings` are set for the server and the engines on top of
    their defaults: no speculation, so that random prompts on which a small base repeats itself don't look like speed.
    """

    rounds: int = 5
    few_rounds: int = 3
    slow_rounds: int = 1
    requests: int = 32
    prompt: int = 64
    output: int = 32
    wide: tuple[int, ...] = (64, 128)
    long_requests: int = 8
    long_prompt: int = 1000
    distinct: tuple[int, ...] = (0, 1, 4, 16, 32)
    many: int = 16
    prefill_requests: int = 4
    prefill_prompt: int = 512
    texts: int = 64
    longest_text: int = 96
    arrivals: int = 40
    loads: tuple[float, ...] = (0.5, 0.8)
    half_load: float = 0.5
    slots: int = 8
    registered: tuple[int, ...] = (1_000, 10_000)
    zipf_requests: int = 128
    classifiers: int = 10_000
    classified: int = 1_000
    open_texts: int = 32
    streams: int = 16
    stream_tokens: int = 64
    cold_loads: int = 8
    chunks: int = 12
    chunk_tokens: int = 512
    machine_mib: int = 512
    settings: Mapping[str, int] = field(default_factory=lambda: {"speculative_tokens": 0})
    machine_side: int = 2048


FULL = Sizes()
QUICK = Sizes(
    rounds=1,
    few_rounds=1,
    requests=4,
    prompt=6,
    output=4,
    wide=(5, 6),
    long_requests=2,
    long_prompt=40,
    distinct=(0, 2, 4),
    many=2,
    prefill_requests=2,
    prefill_prompt=24,
    texts=4,
    longest_text=12,
    arrivals=4,
    loads=(0.5,),
    slots=2,
    registered=(6, 8),
    zipf_requests=8,
    classifiers=20,
    classified=12,
    open_texts=4,
    streams=2,
    stream_tokens=6,
    cold_loads=2,
    chunks=2,
    chunk_tokens=24,
    machine_mib=4,
    settings={"kv_cache_mib": 16, "speculative_tokens": 0},
    machine_side=64,
)
