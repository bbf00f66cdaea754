"""What the API process does now and then beside serving: writing when keys were last used and what tenants used, and
trying once more to free what deletions left where that failed.
"""

import asyncio
from contextlib import suppress

from headmix_server.catalog.library import Library
from headmix_server.core.errors import HeadmixServerError
from headmix_server.core.logging import get_logger
from headmix_server.tenancy.keys import Keys
from headmix_server.tenancy.usage import UsageMeter

FLUSH_SECONDS = 60.0


class Housekeeping:
    """Runs until it is cancelled, and once more on the way out, so that a stop forgets nothing."""

    def __init__(self, keys: Keys, library: Library, usage: UsageMeter, *, seconds: float = FLUSH_SECONDS) -> None:
        self._keys = keys
        self._library = library
        self._usage = usage
        self._seconds = seconds
        self._log = get_logger("housekeeping")

    async def run(self) -> None:
        """Work every `seconds`; what fails is logged and done the next time."""
        try:
            while True:
                await asyncio.sleep(self._seconds)
                await asyncio.to_thread(self._flush)
                await asyncio.to_thread(self._library.free_doomed)
        finally:
            with suppress(asyncio.CancelledError):
                await asyncio.shield(asyncio.to_thread(self._flush))

    def _flush(self) -> None:
        try:
            self._keys.flush_last_used()
        except HeadmixServerError as error:
            self._log.warning("last uses of keys not written", reason=error.message)
        flush_usage(self._usage)


def flush_usage(usage: UsageMeter) -> None:
    """Write what tenants used; where that fails it is logged and kept."""
    try:
        usage.flush()
    except HeadmixServerError as error:
        get_logger("housekeeping").warning("usage not written", reason=error.message)
