"""Which cores the process's threads compute on: the thread that runs steps on all of them, every other on any one.

OpenMP keeps a team of threads for each thread that ever computed on several cores. Once the teams together have more
threads than there are cores, GNU's library lets them sleep between matmuls instead of spinning, and a decode step of
hundreds of small matmuls pays for waking them each time: 14 ms instead of 8.5 (DECISIONS.md). So there must be only one
team. The number of threads is a setting of each thread; a new thread starts with the number that any thread set last.

Each thread of that team can be kept on a core of its own: moved freely, two of them may take turns on one core while
another program has one to itself. What other threads start is not affected.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor

from headmix_server.kernels.native.loading import load_native

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


def as_places(cores: Sequence[Sequence[int]] | None) -> Tensor | None:
    """Return the CPUs of each thread as `stay_on_cores` takes them; None where it is not available."""
    if cores is None or not load_native():
        return None
    width = max(map(len, cores))
    return torch.tensor([[*cpus, *[-1] * (width - len(cpus))] for cpus in cores], dtype=torch.int64)  # [threads, width]


def stay_on_cores(places: Tensor) -> int:
    """Keep each thread of the calling thread's team on its CPUs; return how many do stay.

    Takes microseconds. Called before every step, since OpenMP may have replaced threads of the team.
    """
    return int(torch.ops.headmix.stay_on_cores(places))
