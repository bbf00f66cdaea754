"""The number of threads torch computes with in this process."""

import torch

from headmix_adapters.machine.cpus import CpuBudget


def limit_threads(budget: CpuBudget) -> int:
    """Limit torch to the budget's cores; return the number of threads.

    If torch uses fewer already (one per pair of hyper-threads, or OMP_NUM_THREADS), that number stays.
    """
    threads = min(torch.get_num_threads(), budget.cores)
    torch.set_num_threads(threads)
    return threads
