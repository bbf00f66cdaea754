"""The free-form part of a description: `training`, `created_by` and the base's names. Owns their limits.

Nothing is computed from these fields, but they are shown to people and programs, so they must be small, shallow and
printable.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from headmix_adapters.artifact.faults import FaultList, quoted
from headmix_adapters.artifact.limits import Limits
from headmix_adapters.config import AdapterConfig
from headmix_adapters.printable import printable

MAX_NAME_CHARS = 256


def check_metadata(config: AdapterConfig, limits: Limits, faults: FaultList) -> None:
    """Add a fault for every name that is too long, and one if `training` is too large, too deep or unprintable."""
    names = {
        "base.name": config.base.name,
        "base.model_type": config.base.model_type,
        "base.fingerprint": config.base.fingerprint,
        "created_by": config.created_by,
    }
    for field, text in names.items():
        if len(text) > MAX_NAME_CHARS:
            faults.add(f"{field}: longer than {MAX_NAME_CHARS} characters")
        elif printable(text) != text:
            faults.add(f"{field}: {quoted(text)} holds control characters")
    if (reason := training_fault(config.training, limits)) is not None:
        faults.add(f"training: {reason}")


def training_fault(training: Mapping[str, Any], limits: Limits) -> str | None:
    """Return why a `training` object is not accepted, or None."""
    for depth, text in _texts(training, limits.max_metadata_depth):
        if depth > limits.max_metadata_depth:
            return f"nested more than {limits.max_metadata_depth} deep"
        if text is not None and printable(text, lines=True) != text:
            return f"{quoted(text)} holds control characters"
    # After the depth check: an object that is too deep could not be encoded.
    size = len(msgspec.json.encode(training))
    if size > limits.max_metadata_bytes:
        return f"{size} bytes of JSON, more than the limit of {limits.max_metadata_bytes}"
    return None


def _texts(value: object, deepest: int) -> Iterator[tuple[int, str | None]]:
    """Yield every container's depth and every string, including keys; go no deeper than one level below `deepest`."""
    pending = [(1, value)]
    while pending:
        depth, item = pending.pop()
        if isinstance(item, str):
            yield depth - 1, item
        elif isinstance(item, Mapping | list | tuple):
            yield depth, None
            inner = [*item.keys(), *item.values()] if isinstance(item, Mapping) else item
            if depth <= deepest:
                pending += ((depth + 1, part) for part in inner)
