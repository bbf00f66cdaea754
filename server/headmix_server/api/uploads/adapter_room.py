"""Whether this server could ever hold an adapter, judged when it is uploaded rather than by its first request.

Sizes are the least the engine can make of a file; what is near the limit, the engine judges when it loads it.
"""

from headmix_adapters.artifact import Artifact
from headmix_server.core.errors import AdapterTooLarge
from headmix_server.core.messages import EngineReady
from headmix_server.core.setting_names import called

NARROW, WIDE = 2, 4
"""Bytes of a number of layers that are all bfloat16, and of any others, where they are kept as they are stored."""


def require_room(artifact: Artifact, ready: EngineReady | None) -> None:
    """Refuse an artifact whose numbers are more than the memory for adapters; without an engine nothing is known.

    Raises:
        AdapterTooLarge: they are.
    """
    if ready is None:
        return
    narrow = all(entry.dtype == "BF16" for name, entry in artifact.tensors.items() if name.startswith("layers."))
    stored = NARROW if narrow else WIDE
    for width, budget, setting in (
        (ready.adapter_number_bytes or stored, ready.device_adapter_bytes, "adapter_memory_mib"),
        (min(stored, ready.adapter_number_bytes or stored), ready.host_adapter_bytes, "host_adapter_mib"),
    ):
        size = artifact.num_parameters * width
        if 0 < budget < size:
            raise AdapterTooLarge(
                f"The adapter's {artifact.num_parameters} numbers take {size} bytes, more than the server's memory for "
                f"adapters, {budget} ({called(setting)}).",
                param="file",
            )
