"""The limits on artifacts, from the settings; they apply to uploads and to adapters that are added in this process."""

from headmix_adapters.artifact import Limits
from headmix_server.core.settings.settings import Settings


def artifact_limits(settings: Settings) -> Limits:
    """Return the limits in the settings."""
    return Limits(
        max_rank=settings.max_adapter_rank,
        max_bytes=settings.max_adapter_mib * 2**20,
        max_labels=settings.max_labels,
        max_metadata_bytes=settings.max_adapter_metadata_kib * 1024,
    )
