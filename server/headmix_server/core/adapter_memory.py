"""How much memory adapters may take on the device and in host memory: as set, or a fraction of what is free."""

from dataclasses import dataclass

from headmix_adapters.machine.memory import available_memory
from headmix_server.core.observability.logging import get_logger
from headmix_server.core.settings.settings import Settings

MIB = 1 << 20
SHARE = 4
"""Each tier takes the free memory divided by this: on a CPU, where both tiers share it, half is left."""
LEAST = 64 * MIB
MOST_ON_GPU = 4096 * MIB
"""On a GPU the budget is allocated at startup, and the rest belongs to the key/value cache."""


@dataclass(frozen=True, slots=True)
class AdapterMemory:
    """The budgets in bytes."""

    device: int
    host: int


def adapter_memory(settings: Settings, *, promised: int = 0, free_on_gpu: int | None = None) -> AdapterMemory:
    """Return the budgets; `promised` is host memory reserved for other uses, `free_on_gpu` is None without a GPU."""
    free = max(0, available_memory() - promised)
    share = max(LEAST, free // SHARE)
    usual = share if free_on_gpu is None else max(LEAST, min(MOST_ON_GPU, free_on_gpu // SHARE))
    memory = AdapterMemory(settings.adapter_memory_mib * MIB or usual, settings.host_adapter_mib * MIB or share)
    get_logger("memory").info(
        "memory for adapters", device_mib=memory.device // MIB, host_mib=memory.host // MIB, free_mib=free // MIB
    )
    return memory
