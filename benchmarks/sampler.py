"""The cost of choosing a step's tokens, for every kind of request: python -m benchmarks.sampler; last line JSON.

A step here is everything after the scores: the plan, the pass, waiting for the device, and the host's results.
"""

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from headmix_server.core.runner import BatchRow
from headmix_server.core.types import SamplingParams
from headmix_server.device.adapters.added_tokens import AddedScores
from headmix_server.device.exchange import Readback
from headmix_server.device.sampler import Sampler
from headmix_server.kernels.sampling.choice import SamplingBackend, fastest_sampling
from headmix_server.kernels.sampling.reference import torch_choose

ROWS = (1, 32, 128)
VOCABULARIES = (49_152, 128_256)
HISTORY = 400
KINDS: Mapping[str, Mapping[str, Any]] = {
    "greedy": {"temperature": 0},
    "temperature 1": {},
    "top-p": {"temperature": 0.8, "top_p": 0.95},
    "top-p, top-k": {"temperature": 0.8, "top_p": 0.95, "top_k": 50},
    "and penalty, 5 log-probabilities": {
        "temperature": 0.8,
        "top_p": 0.95,
        "top_k": 50,
        "frequency_penalty": 0.5,
        "logprobs": 5,
    },
}


def make_scores(rows: int, vocabulary: int, device: torch.device) -> torch.Tensor:
    """Return scores distributed like a language model's: a few stand out from many that fall off."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(rows, vocabulary, generator=generator) * 2.5
    scores[:, :200] += torch.rand(rows, 200, generator=generator) * 12
    return scores.to(device)


def time_kind(sampler: Sampler, scores: torch.Tensor, kind: Mapping[str, Any], rounds: int) -> tuple[float, float]:
    """Return the median and minimum milliseconds of a step whose rows are all of this kind."""
    rows = []
    for number in range(len(scores)):
        params = SamplingParams(max_tokens=1, seed=number, **kind)
        history = [token * 13 % 999 for token in range(HISTORY)]
        rows.append((BatchRow(number, HISTORY - 1, 1, history, 64, (), None, samples=True, params=params), params))
    nothing = AddedScores.stack([None] * len(rows), scores.device)
    seconds = []
    for _ in range(rounds + 1):
        if scores.is_cuda:
            torch.cuda.synchronize()
        began = time.perf_counter()
        back = Readback()
        pending = sampler.choose(scores, rows, nothing, back)
        back.fetch()
        pending.read()
        seconds.append(time.perf_counter() - began)
    return 1000 * median(seconds[1:]), 1000 * min(seconds[1:])


def measure(
    backend: SamplingBackend, device: torch.device, rows: Sequence[int], vocabularies: Sequence[int], rounds: int
) -> dict[str, tuple[float, float]]:
    """Return median and minimum milliseconds by vocabulary, rows and kind."""
    found = {}
    for vocabulary in vocabularies:
        for count in rows:
            scores = make_scores(count, vocabulary, device)
            for name, kind in KINDS.items():
                found[f"{vocabulary}, {count} rows, {name}"] = time_kind(Sampler(backend), scores, kind, rounds)
    return found


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--backend", choices=("fastest", "torch"), default="fastest", help="torch: the reference")
    parser.add_argument("--rows", type=int, nargs="+", default=ROWS)
    parser.add_argument("--vocabulary", type=int, nargs="+", default=VOCABULARIES)
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args(arguments)
    device = torch.device(options.device)
    backend = fastest_sampling(device) if options.backend == "fastest" else SamplingBackend("torch", torch_choose)
    found = measure(backend, device, options.rows, options.vocabulary, options.rounds)
    table = Table("vocabulary", "rows", "kind", "median ms per step", "least")
    for name, (middle, least) in found.items():
        table.add_row(*name.split(", ", 2), f"{middle:.2f}", f"{least:.2f}")
    Console(stderr=True).print(table)
    rounded = {name: [round(number, 3) for number in both] for name, both in found.items()}
    print(json.dumps({"by": backend.name, "threads": torch.get_num_threads(), "milliseconds": rounded}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
