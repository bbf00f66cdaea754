"""Periodic work of the API process besides serving: it writes when keys were last used and what tenants used, retries
freeing what deletions left behind, and removes old rows of the audit and files that have expired.

No failure here ends anything. What could not be written stays in memory, within bounds, and is written the next time.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict

from headmix_server.catalog.library import Library
from headmix_server.core.errors import HeadmixServerError
from headmix_server.core.observability.logging import get_logger
from headmix_server.database.audit_log import AuditLog
from headmix_server.tenancy.keys.keys import Keys
from headmix_server.tenancy.usage.meter import UsageMeter

FLUSH_SECONDS = 60.0


class BackgroundTasks:
    """Runs until it is cancelled, and writes once more on the way out, so that a stop loses nothing."""

    def __init__(
        self,
        keys: Keys,
        library: Library,
        usage: UsageMeter,
        audit: AuditLog,
        keep_files: Callable[[], None],
        *,
        seconds: float = FLUSH_SECONDS,
    ) -> None:
        self._keys = keys
        self._library = library
        self._usage = usage
        self._audit = audit
        self._keep_files = keep_files
        self._seconds = seconds

    async def run(self) -> None:
        """Work every `seconds`; what fails is logged and retried the next time."""
        try:
            while True:
                await asyncio.sleep(self._seconds)
                await asyncio.to_thread(self._flush)
                await asyncio.to_thread(_try, "artifacts not freed", self._library.free_doomed)
                await asyncio.to_thread(_try, "old rows of the audit not removed", self._audit.trim)
                await asyncio.to_thread(_try, "files not swept", self._keep_files)
        finally:
            with suppress(asyncio.CancelledError):
                await asyncio.shield(asyncio.to_thread(self._flush))

    def _flush(self) -> None:
        _try("last uses of keys not written", self._keys.flush_last_used)
        _try("usage not written", self._usage.flush)


def flush_for_good(usage: UsageMeter) -> None:
    """Write what tenants used, for the last time. What cannot be written is lost, and the log has all its counts."""
    if _try("usage not written", usage.flush):
        return
    for tenant, day, adapter, used in usage.unwritten():
        get_logger("housekeeping").error("usage lost", tenant=tenant, day=day, adapter=adapter, **asdict(used))


def _try(failure: str, work: Callable[[], None]) -> bool:
    """Do a piece of work and return whether it succeeded; a failure is logged."""
    log = get_logger("housekeeping")
    try:
        work()
    except HeadmixServerError as error:
        log.warning(failure, reason=error.message)
    except Exception:  # a bug; the remaining work and the next round continue
        log.exception(failure)
    else:
        return True
    return False
