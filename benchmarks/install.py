"""The cost of installing a loaded adapter in a slot: `python -m benchmarks.install`; the last line is JSON.

Compares three kinds of memory for slots: allocated by torch, reserved in pages of 4 KiB, and reserved in huge pages (as
the server does). Each is written for the first time and once more. Milliseconds, medians over all slots except the
first.
"""

import json
import logging
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from unittest import mock

import structlog
import torch
from torch import Tensor

from harness.machine import describe_machine
from headmix_server.device.adapters import image_arena
from headmix_server.device.adapters.image_arena import ImageArena
from headmix_server.device.adapters.reserved_memory import ReservedMemory, reserve

NUMBERS = 1_475_000
"""The size of an adapter of the authors' GPT-2 preset on SmolLM2-135M, in float32: 5.9 MB."""
SLOTS = 32
ROUNDS = 5

WAYS: Mapping[str, Callable[[int, torch.dtype], ReservedMemory]] = {
    "allocated": lambda numel, dtype: ReservedMemory(torch.empty(numel, dtype=dtype)),
    "reserved, 4 KiB pages": partial(reserve, huge_pages=False),
    "reserved, huge pages": reserve,
}


def main() -> None:
    """Measure and print."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    torch.set_num_threads(1)  # as in the engine's thread
    image = torch.randn(NUMBERS)
    fresh: dict[str, list[float]] = {name: [] for name in WAYS}
    again: dict[str, list[float]] = {name: [] for name in WAYS}
    for _ in range(ROUNDS):
        for name, allocate in WAYS.items():
            with mock.patch.object(image_arena, "reserve", allocate):
                first, second = _fill_twice(image)
            fresh[name] += first
            again[name] += second
    figures = {name: {"fresh": _median(fresh[name]), "again": _median(again[name])} for name in WAYS}
    for name, figure in figures.items():
        sys.stdout.write(f"{name:24} fresh {figure['fresh']:.2f}  again {figure['again']:.2f}\n")
    print(json.dumps({"benchmark": "install", "slots": SLOTS, "milliseconds": figures, "machine": describe_machine()}))


def _fill_twice(image: Tensor) -> tuple[list[float], list[float]]:
    """Install an adapter in every slot, empty them, and install again; return both times without the first slot's."""
    arena = ImageArena(SLOTS, torch.float32)
    times: list[float] = []
    for _ in range(2):
        starts = []
        for _ in range(SLOTS):
            began = time.perf_counter()
            starts.append(arena.put(image))
            times.append(1000 * (time.perf_counter() - began))
        for start in starts:
            arena.remove(start)
    return times[1:SLOTS], times[SLOTS:]


def _median(times: list[float]) -> float:
    return round(statistics.median(times), 3)


if __name__ == "__main__":
    main()
