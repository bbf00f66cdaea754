"""Which of the process's threads compute on how many cores: the one that runs steps on all, every other one on one.

OpenMP keeps a team of threads for each thread that ever computed on several cores. Once the teams have more threads
than there are cores, GNU's library lets them sleep between products instead of waiting awake, and a decode step of
hundreds of small products pays for waking them each time: 14 ms in place of 8.5 (DECISIONS.md). So there must be one
team. Numbers of threads are each thread's own; a new thread begins with the number that was set last by any.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

Result = TypeVar("Result")


def compute_with(threads: int) -> None:
    """Let the calling thread compute on that many cores from now on, whatever others have set."""
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
    """Return the call's result from a thread that ends with it, and its team of threads too; for building a model."""
    with ThreadPoolExecutor(1, thread_name_prefix="build") as pool:
        return pool.submit(call).result()
