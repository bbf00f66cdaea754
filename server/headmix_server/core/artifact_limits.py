"""How large an artifact may be, by the settings: what an upload and an adapter in this process are judged by."""

from headmix_adapters.artifact import Limits
from headmix_server.core.settings import Settings


def artifact_limits(settings: Settings) -> Limits:
    """Return the limits that the settings name."""
    return Limits(
        max_rank=settings.max_adapter_rank,
        max_bytes=settings.max_adapter_mib * 2**20,
        max_labels=settings.max_labels,
        max_metadata_bytes=settings.max_adapter_metadata_kib * 1024,
    )
