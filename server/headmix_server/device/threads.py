"""How many cores the process's threads compute on: the thread that runs steps on all of them, every other on one.

OpenMP keeps a team of threads for each thread that ever computed on several cores. Once the teams together have more
threads than there are cores, GNU's library lets them sleep between matmuls instead of spinning, and a decode step of
hundreds of small matmuls pays for waking them each time: 14 ms instead of 8.5 (DECISIONS.md). So there must be only one
team. The number of threads is a setting of each thread; a new thread starts with the number that any thread set last.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

Result = TypeVar("Result")


def compute_with(threads: int) -> None:
    """Let the calling thread compute on that many cores from now on, whatever other threads have set."""
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)


@contextmanager
def computing_alone() -> Iterator[None]:
    """Let the calling thread compute without a team, for loading and installing."""
    before = torch.get_num_threads()
    compute_with(1)
    try:
        yield
    finally:
        compute_with(before)


def on_passing_thread(call: Callable[[], Result]) -> Result:
    """Return the call's result from a thread that ends with it, as does its team of threads; for building a model."""
    with ThreadPoolExecutor(1, thread_name_prefix="build") as pool:
        return pool.submit(call).result()
