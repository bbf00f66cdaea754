"""Whether what a sequence has said changes what it says next: asked by the device, and by the fair share."""

from headmix_server.core.types import SamplingParams


def penalises(params: SamplingParams) -> bool:
    """Return whether a sequence's history changes its scores."""
    return (params.presence_penalty, params.frequency_penalty, params.repetition_penalty) != (0, 0, 1)
