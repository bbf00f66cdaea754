"""Python's garbage collector, told that what a start made stays: without that it looks at all of it now and then, and
nothing else runs for a tenth of a second or more.
"""

import gc

from headmix_server.core.observability.logging import get_logger


def keep_for_good() -> None:
    """Exempt every object there is from collection; call it once, when a process is about to serve."""
    gc.collect()
    gc.freeze()
    get_logger("collector").info("garbage collection", exempt=gc.get_freeze_count())
