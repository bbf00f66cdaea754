"""Tells Python's garbage collector that objects created at startup stay: otherwise it traverses all of them now and
then, and nothing else runs for a tenth of a second or more.
"""

import gc

from headmix_server.core.observability.logging import get_logger


def keep_for_good() -> None:
    """Exempt all existing objects from collection; call it once, when a process is about to serve."""
    gc.collect()
    gc.freeze()
    get_logger("collector").info("garbage collection", exempt=gc.get_freeze_count())
