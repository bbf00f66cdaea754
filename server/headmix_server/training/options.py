"""How a worker trains, from the settings: threads, limits, paces."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec

from headmix_adapters.machine.cpus import read_cpu_budget
from headmix_server.core.settings.settings import Settings
from headmix_server.training.process.launch import TrainerLimits

_SECRET = frozenset({"HEADMIX_DATABASE", "HEADMIX_ARTIFACTS", "HEADMIX_LIMITS_STORAGE", "HEADMIX_API_KEY"})
"""Variables that a training has no use for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingOptions:
    """`threads` is for jobs that no worker has begun: a job keeps its number, on which the last bits depend."""

    threads: int
    limits: TrainerLimits
    claim_seconds: float
    checkpoint_seconds: float
    attempts: int
    hides_gpu: bool


def training_options(settings: Settings, *, beside_server: bool) -> TrainingOptions:
    """Return the options; a worker beside its server yields to it and leaves the GPU alone."""
    cores = read_cores(settings.train_cores)
    usual = 1 if beside_server else read_cpu_budget().cores
    return TrainingOptions(
        threads=settings.train_threads or len(cores) or usual,
        limits=TrainerLimits(yields=beside_server, cores=cores, memory_mib=settings.train_memory_mib),
        claim_seconds=settings.train_claim_seconds,
        checkpoint_seconds=settings.train_checkpoint_seconds,
        attempts=settings.train_attempts,
        hides_gpu=beside_server or settings.device == "cpu",
    )


def missing_packages() -> str | None:
    """Return what to install before anything can be trained here, or None if everything is there."""
    return None if find_spec("accelerate") else "training needs packages that are not installed: headmix[train]"


def read_cores(text: str | None) -> tuple[int, ...]:
    """Return the cores that a list such as `0,2-3` names; none means all.

    Raises:
        ValueError: it is no such list, or names a core that this process may not use.
    """
    if text is None:
        return ()
    cores: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        cores.update(range(int(first), int(last if dash else first) + 1))
    usable = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    if not cores or not cores <= usable:
        raise ValueError(f"this process may run on the cores {', '.join(map(str, sorted(usable)))}")
    return tuple(sorted(cores))


def environment(threads: int, *, hides_gpu: bool, own: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return a training's environment: this process's own without secrets, with the number of threads."""
    kept = {name: value for name, value in own.items() if name not in _SECRET}
    kept["OMP_NUM_THREADS"] = str(threads)
    return kept | ({"CUDA_VISIBLE_DEVICES": ""} if hides_gpu else {})
