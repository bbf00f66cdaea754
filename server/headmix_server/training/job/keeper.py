"""Keeps a claim: renews it at a steady pace from a thread of its own, whatever the worker is doing meanwhile."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from headmix_server.core.errors import HeadmixServerError
from headmix_server.core.observability.logging import get_logger
from headmix_server.fine_tuning.progress import Progress, read_progress
from headmix_server.jobs.claims import Claim, ClaimLostError, Claims
from headmix_server.jobs.job import Wanted
from headmix_server.tenancy.usage.trained import charge_trained

RENEWALS = 4
"""Renewals within a claim's seconds, so that some may fail."""


class ClaimKeeper:
    """One claim. `wanted` is what its tenant wants, as of the last renewal; `lost` is set once the claim is gone.

    `tokens_charged_to` names the adapter whose usage the trained tokens are. `on_renewed` is called after each renewal
    with the seconds since the last one.
    """

    def __init__(
        self,
        claims: Claims,
        claim: Claim,
        *,
        adapter: str,
        seconds: float,
        on_renewed: Callable[[float], None] = lambda _: None,
        is_working: Callable[[], bool] = lambda: True,
    ) -> None:
        self._claims = claims
        self._claim = claim
        self._adapter = adapter
        self._pause = seconds / RENEWALS
        self._on_renewed = on_renewed
        self._is_working = is_working
        self._stop = threading.Event()
        self._renewing = threading.Lock()
        self._renewed_at = time.monotonic()
        self._charged = read_progress(claim.job.progress).trained_tokens
        self.progress: Progress | None = None
        self.wanted: Wanted | None = None
        self.lost = threading.Event()
        self._log = get_logger("training").bind(job=claim.job.id)

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Renew the claim during the block."""
        thread = threading.Thread(target=self._run, name="claim", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()

    @property
    def job_id(self) -> str:
        """The id of the claimed job."""
        return self._claim.job.id

    def renew(self) -> None:
        """Renew the claim now, with the current progress.

        Raises:
            ClaimLostError: it is gone.
            HeadmixServerError: the database is unavailable.
        """
        with self._renewing:
            now, progress = time.monotonic(), self.progress
            worked = now - self._renewed_at if self._is_working() else 0.0
            tokens = self._charged if progress is None else max(progress.trained_tokens, self._charged)
            job = self._claim.job
            self.wanted = self._claims.renew(
                self._claim,
                worked=worked,
                progress=None if progress is None else progress.json(),
                within=lambda session: charge_trained(
                    session, job.tenant, self._adapter, tokens - self._charged, now=time.time()
                ),
            )
            self._charged, self._renewed_at = tokens, now
        self._on_renewed(worked)

    def _run(self) -> None:
        while not self._stop.wait(self._pause):
            try:
                self.renew()
            except ClaimLostError:
                self._log.warning("the claim is lost: another worker has the job")
                self.lost.set()
                return
            except HeadmixServerError as error:
                self._log.warning("the claim cannot be renewed at the moment", reason=error.message)


def last_renewal(keeper: ClaimKeeper) -> None:
    """Record the final progress, if the claim and the database are there."""
    with contextlib.suppress(ClaimLostError, HeadmixServerError):
        keeper.renew()
