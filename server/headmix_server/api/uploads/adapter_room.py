"""Whether this server could ever load an adapter, checked at upload rather than by its first request.

Sizes are lower bounds of what the engine will need; near the limit, the engine decides when it loads the adapter.
"""

from headmix_adapters.artifact import Artifact
from headmix_server.core.errors import AdapterTooLarge
from headmix_server.core.messages import EngineReady
from headmix_server.core.settings.names import called

NARROW, WIDE = 2, 4
"""Bytes per number, kept as stored, of an adapter whose layers are all bfloat16 and of any other."""


def require_room(artifact: Artifact, ready: EngineReady | None) -> None:
    """Refuse an artifact that exceeds the memory for adapters; without a running engine, its limits are unknown.

    Raises:
        AdapterTooLarge: it exceeds that memory.
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
