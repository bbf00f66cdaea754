"""How many threads torch computes with in this process."""

import torch

from headmix_adapters.machine.cpus import CpuBudget


def limit_threads(budget: CpuBudget) -> int:
    """Let torch compute on no more cores than the budget has; return the number of threads.

    Where torch has fewer already (a core for each pair of hyper-threads, or OMP_NUM_THREADS), it keeps them.
    """
    threads = min(torch.get_num_threads(), budget.cores)
    torch.set_num_threads(threads)
    return threads
