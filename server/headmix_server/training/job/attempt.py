"""One attempt at a claimed job: train, report, keep checkpoints, and hand over what came of it.

Whatever happens to this process, the job's rows stay true: what the attempt has not recorded, another does again.
"""

import tarfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from headmix_adapters.train.errors import TargetError
from headmix_adapters.train.history.events import Diverged, Done, Event, Failed
from headmix_adapters.train.history.history import run_folder_path
from headmix_server.core.errors import ArtifactDamaged, HeadmixServerError, InsufficientStorage
from headmix_server.core.observability.logging import get_logger
from headmix_server.files.files import Files
from headmix_server.files.references import keep_for_job
from headmix_server.files.staging import Staging
from headmix_server.fine_tuning.request import FineTuning, read_request
from headmix_server.fine_tuning.result import JobError, Trained
from headmix_server.jobs.claims import Claim, ClaimLostError, Claims
from headmix_server.jobs.job import Checkpoint, NewEvent
from headmix_server.jobs.jobs import Jobs
from headmix_server.training.control import Control
from headmix_server.training.job.archive import pack
from headmix_server.training.job.folder import EVENTS, artifact_of, prepare, private_folder
from headmix_server.training.job.follow import Follower, Recorded, recorded
from headmix_server.training.job.keeper import ClaimKeeper, last_renewal
from headmix_server.training.job.outside import OUTSIDE, is_full, reason_of, says_full
from headmix_server.training.job.patience import Patience
from headmix_server.training.job.results import store_results
from headmix_server.training.options import TrainingOptions, environment
from headmix_server.training.process.event_tail import EventTail
from headmix_server.training.process.trainer import TRAIN, Trainer

LOST = "lost"
TICK_SECONDS = 0.2
RECORD_SECONDS = 1.0
RETRY_SECONDS = 5.0
LOG_SECONDS = 10.0
INTERRUPT_SECONDS = 300.0
"""How long a training that is to stop may take to its next step and a checkpoint."""

_DONE, _FAILED, _REFUSED, _DIVERGED, _INTERRUPTED = 0, 1, 2, 4, 130
"""The exit statuses of `headmix train`."""
_STATE = "state.tar"
STANDING_ASIDE_SECONDS = 60.0
"""How long a training is suspended before its tenant is told."""


class _Metrics(msgspec.Struct, frozen=True):
    """What a checkpoint's row says besides its step."""

    threads: int | None = None
    train_loss: float | None = None
    valid_loss: float | None = None


_METRICS = msgspec.json.Decoder(_Metrics)


@dataclass(frozen=True, slots=True, kw_only=True)
class Workshop:
    """What every attempt of a worker uses. `base` is what the trainer loads, `command` the trainer's program."""

    jobs: Jobs
    claims: Claims
    files: Files
    base: str
    root: Path
    options: TrainingOptions
    control: Control
    command: tuple[str, ...] = TRAIN
    on_worked: Callable[[float], None] = lambda _: None


class _DiskFullError(Exception):
    """The training has failed because the disk of this machine is full."""


class Attempt:
    """One claim, from its beginning to its end."""

    def __init__(self, shop: Workshop, claim: Claim) -> None:
        self._shop = shop
        self._claim = claim
        self._request: FineTuning = read_request(claim.job.request)
        self._follower = Follower(Recorded())
        self._log = get_logger("training").bind(job=claim.job.id)
        self._trainer: Trainer | None = None
        self._staging: Staging
        self._keeper = ClaimKeeper(
            shop.claims,
            claim,
            adapter=self._request.name,
            seconds=shop.options.claim_seconds,
            on_renewed=shop.on_worked,
            is_working=lambda: not self._patience.is_waiting and (self._trainer is None or not self._trainer.suspended),
        )
        self._threads = shop.options.threads
        self._patience = Patience(self._keeper, shop.control)
        self._recorded_at = 0.0
        self._stored_step: int | None = None
        self._retry_at = 0.0
        self._logged_at = 0.0
        self.is_postponed = False

    def run(self) -> str:
        """Work on the job until it is done or given back; return the state that it is in then, or `lost`.

        `is_postponed` says whether it was given back because the store or this machine fails.

        Raises:
            HeadmixServerError: the worker is to stop while the database is unavailable.
        """
        try:
            with self._keeper.kept():
                return self._attempt()
        except ClaimLostError:
            self._log.warning("the job is no longer this worker's")
            return LOST

    def _attempt(self) -> str:
        try:
            newest = self._shop.jobs.events(self._claim.job.id, limit=50, newest_first=True)
            self._follower.before = recorded(newest)
            with private_folder(self._shop.root) as folder, self._shop.files.staging() as self._staging:
                return self._train(folder)
        except _DiskFullError:  # its folder is gone by now, so that there may be room to write this down
            return self._postpone(InsufficientStorage("The disk of the worker's machine is full."))
        except OUTSIDE as error:
            if self._trainer is not None:
                raise
            return self._postpone(error)

    def _train(self, folder: Path) -> str:
        try:
            checkpoint = self._shop.claims.last_checkpoint(self._claim)
            arguments = self._prepare(folder, checkpoint)
        except OUTSIDE:
            raise
        except ArtifactDamaged as error:
            return self._fail("file_missing", f"The job's data cannot be read: {error.message}")
        except (ValueError, TargetError) as error:
            return self._fail("invalid_request", f"The job cannot be prepared: {error}")
        except (HeadmixServerError, tarfile.TarError) as error:
            return self._crashed(f"The job could not be prepared: {error}.")
        if self._claim.has_waited:
            self._follower.news.append(NewEvent("The job no longer waits: a worker goes on with it."))
        if checkpoint is None:
            self._follower.news.append(NewEvent("Loading the base, which is scored first as it is."))
        options = self._shop.options
        trainer = self._trainer = Trainer(
            [*self._shop.command, *arguments],
            folder,
            options.limits,
            environment(self._threads, hides_gpu=options.hides_gpu),
        )
        self._log.info("training", pid=trainer.pid, threads=self._threads, resumes="--resume" in arguments)
        try:
            self._shop.control.watch(lambda busy: trainer.suspend() if busy else trainer.resume())
            self._watch(trainer, folder)
        finally:
            self._shop.control.watch(None)
            trainer.kill()
        return self._conclude(trainer, folder)

    def _prepare(self, folder: Path, checkpoint: Checkpoint | None) -> list[str]:
        arguments = prepare(folder, self._request, checkpoint, self._shop.files, self._shop.base)
        if checkpoint is not None:
            self._stored_step = checkpoint.step
            self._threads = _METRICS.decode(checkpoint.metrics).threads or self._threads
        return [*arguments, "--checkpoint-seconds", f"{self._shop.options.checkpoint_seconds:g}"]

    # --- while it trains ---------------------------------------------------------------------------------------------

    def _watch(self, trainer: Trainer, folder: Path) -> None:
        """Follow the trainer to its end, which may be one that the tenant or this worker's stop has asked for."""
        tail, stopping_since, aside = EventTail(folder / EVENTS), None, _Aside()
        while trainer.status() is None:
            self._follow(tail, folder)
            if self._keeper.lost.is_set() or self._keeper.wanted == "cancel" or self._shop.control.hurrying.is_set():
                trainer.kill()
            elif self._keeper.wanted == "pause" or self._shop.control.stopping.is_set():
                if stopping_since is None:
                    stopping_since = time.monotonic()
                    self._shop.control.watch(None)
                    trainer.interrupt()
                elif time.monotonic() - stopping_since > INTERRUPT_SECONDS:
                    trainer.kill()
            elif aside.is_new(suspended=trainer.suspended):
                self._follower.news.append(NewEvent("Training waits: it goes on once no request is open."))
            trainer.wait(TICK_SECONDS)
        self._follow(tail, folder, last=True)

    def _follow(self, tail: EventTail, folder: Path, *, last: bool = False) -> None:
        self._follower.take(tail.read())
        self._keeper.progress = self._follower.progress
        now = time.monotonic()
        self._log_progress(now)
        if self._keeper.lost.is_set() or (now < self._retry_at and not last):
            return
        try:
            if last or now - self._recorded_at >= RECORD_SECONDS:
                self._record()
                self._recorded_at = now
            self._keep_checkpoint(folder)
        except (HeadmixServerError, OSError) as error:
            self._retry_at = now + RETRY_SECONDS
            self._log.warning("progress cannot be recorded at the moment", reason=str(error))

    def _log_progress(self, now: float) -> None:
        progress = self._follower.progress
        if progress.step is not None and now - self._logged_at >= LOG_SECONDS:
            self._logged_at = now
            left = None if progress.seconds_left is None else round(progress.seconds_left)
            loss = None if progress.train_loss is None else round(progress.train_loss, 4)
            self._log.info("progress", step=progress.step, steps=progress.steps, train_loss=loss, seconds_left=left)

    def _record(self) -> None:
        news = self._follower.take_news()
        if not news:
            return
        try:
            self._keeper.wanted = self._shop.claims.add_events(self._claim, news)
        except HeadmixServerError:
            self._follower.news[:0] = news
            raise

    def _keep_checkpoint(self, folder: Path) -> None:
        """Store the newest checkpoint, unless it is stored already."""
        step = self._follower.checkpoint
        if step is None or step == self._stored_step:
            return
        state = folder / _STATE
        try:
            if pack(run_folder_path(artifact_of(folder, self._request)), step, state):
                self._store_checkpoint(state, step)
            # else a newer one has replaced it, and is reported next
        finally:
            state.unlink(missing_ok=True)

    def _store_checkpoint(self, state: Path, step: int) -> None:
        progress = self._follower.progress
        metrics = _Metrics(self._threads, progress.train_loss, progress.valid_loss)
        digest = self._staging.put(state)
        self._shop.claims.add_checkpoint(
            self._claim,
            step=step,
            digest=digest,
            size_bytes=state.stat().st_size,
            metrics=msgspec.json.encode(metrics).decode(),
        )
        self._staging.end()  # not if it failed: another try finds the bytes there
        self._stored_step = step
        self._log.info("checkpoint stored", step=step, digest=digest)

    # --- its end -----------------------------------------------------------------------------------------------------

    def _conclude(self, trainer: Trainer, folder: Path) -> str:
        if self._keeper.lost.is_set():
            return LOST
        last_renewal(self._keeper)
        status, last = trainer.status(), self._follower.last
        if status == _DONE and isinstance(last, Done):
            return self._hand_over(folder, last)
        if status == _DIVERGED and isinstance(last, Diverged):
            return self._fail("diverged", f"Training has diverged: {last.message}.")
        asked = self._keeper.wanted is not None or self._shop.control.stopping.is_set()
        if status == _INTERRUPTED or (asked and not _is_refused(status, last)):
            return self._release()
        reason = last.message if isinstance(last, Failed) else f"the training process ended with {trainer.ending()}"
        self._log.error("training failed", reason=reason, output=trainer.last_words())
        if is_full(folder) or (status == _FAILED and says_full(f"{reason}\n{trainer.last_words()}")):
            raise _DiskFullError
        if _is_refused(status, last):
            return self._fail("invalid_training", f"Training is not possible: {reason}.")
        return self._crashed(f"Training failed: {reason}.")

    def _hand_over(self, folder: Path, done: Done) -> str:
        """Store the results and let the server publish them; the files of a job that has ended are not kept for it."""
        artifact, started = artifact_of(folder, self._request), self._follower.started
        tokens = self._follower.progress.trained_tokens
        put = self._staging.put
        try:
            trained = self._patience.work(
                lambda: store_results(artifact, put, done, started, tokens), says=self._say_result_waits
            )
        except FileNotFoundError as error:
            return self._crashed(f"Training has left no result: {reason_of(error)}")
        except OUTSIDE:
            return self._release()
        return self._publish(trained, done)

    def _publish(self, trained: Trained, done: Done) -> str:
        over = NewEvent(f"Trained in {done.steps} steps; the server publishes the adapter next.")
        events = [*self._follower.take_news(), over]
        return self._patience.work(
            lambda: self._shop.claims.end(
                self._claim,
                "publishing",
                result=trained.json(),
                events=events,
                within=lambda session: keep_for_job(session, trained.sizes, job=self._claim.job.id),
            )
        )

    def _fail(self, code: str, message: str) -> str:
        error = JobError(code=code, message=message)
        self._log.error("the job has failed", code=code, reason=message)
        event = NewEvent(message, level="error")
        return self._patience.work(
            lambda: self._shop.claims.end(self._claim, "failed", error=error.json(), events=[event])
        )

    def _crashed(self, reason: str) -> str:
        return self._patience.work(lambda: self._shop.claims.crashed(self._claim, reason))

    def _release(self) -> str:
        return self._patience.work(lambda: self._shop.claims.release(self._claim))

    def _postpone(self, error: Exception) -> str:
        self.is_postponed = True
        self._log.warning("the job is postponed", reason=str(error))
        return self._patience.work(lambda: self._shop.claims.postpone(self._claim, reason_of(error)))

    def _say_result_waits(self, reason: str) -> None:
        event = NewEvent(f"Training is over, and its result waits: {reason}", level="warn")
        with suppress(HeadmixServerError):
            self._shop.claims.add_events(self._claim, [event])


def _is_refused(status: int | None, last: Event | None) -> bool:
    return status == _REFUSED and isinstance(last, Failed)


@dataclass(slots=True)
class _Aside:
    """Notices, once for each, that a training has been suspended for long."""

    since: float | None = None
    told: bool = field(default=False)

    def is_new(self, *, suspended: bool) -> bool:
        if not suspended:
            self.since, self.told = None, False
            return False
        self.since = time.monotonic() if self.since is None else self.since
        if self.told or time.monotonic() - self.since < STANDING_ASIDE_SECONDS:
            return False
        self.told = True
        return True
