"""Memory that settings require but the machine does not have, reported as an error in these settings."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from headmix_server.core.settings.names import called
from headmix_server.device.placement import PlacementError


@contextmanager
def memory_asked_for(*settings: str) -> Iterator[None]:
    """Run code that takes memory in proportion to these settings.

    Raises:
        PlacementError: there is not enough memory.
    """
    try:
        yield
    except (MemoryError, OverflowError, OSError, RuntimeError) as error:
        if isinstance(error, OSError) and error.errno != errno.ENOMEM:
            raise
        # torch has its own class only for a GPU's memory.
        is_memory = isinstance(error, torch.OutOfMemoryError) or "allocate memory" in str(error)
        if type(error) is RuntimeError and not is_memory:
            raise
        names = " and ".join(map(called, settings))
        raise PlacementError(f"{names}: this machine does not have the memory they ask for") from error
