"""Jobs as a worker sees them: claimed, renewed, recorded, ended.

Every change a worker makes is conditional on its claim: one that has lost the claim, because it was cut off for too
long, changes nothing any more. Clocks of different machines are never compared.
"""

import json
import secrets
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Literal

from sqlalchemy import Engine, func, select, update
from sqlalchemy.orm import Session

from headmix_server.database import reading, writing
from headmix_server.jobs.changes import REACHED, add_events, change_state, keep_checkpoints, new_id, read_job
from headmix_server.jobs.claim_watch import ClaimWatch
from headmix_server.jobs.job import (
    HEAD_ONLY,
    Checkpoint,
    Job,
    Kind,
    Level,
    NewEvent,
    State,
    Wanted,
    checkpoint_of,
    head_of,
    job_of,
)
from headmix_server.jobs.next_job import Had, had_by_tenant, next_job
from headmix_server.jobs.tables import JobCheckpointRow, JobEventRow, JobRow

MOST_ATTEMPTS = 3

WAITING = '{"code":"waiting_for_resources"}'
"""The data of the events that say why no worker can do a job now."""
_LAST_EVENTS = 10

Outcome = Literal["publishing", "succeeded", "failed", "cancelled", "expired"]


class ClaimLostError(Exception):
    """The job is no longer this worker's: another has taken it over, or it has ended."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A job that this worker has taken; `job` is as it was then. `owner` is secret and unique to the claim.

    `has_waited`: the job's last events say why no worker could do it.
    """

    job: Job
    owner: str
    has_waited: bool = False


class Claims:
    """One worker's side of the jobs of some kinds. Safe to use from many threads; methods block.

    `worker` names it for people. It may do jobs that need the base `base`, and those that need none. A claim may be
    taken over once it has not been renewed for `seconds`, and a job that `most_attempts` claims in a row have not got
    ahead fails. `clock` returns Unix seconds, `steady` those of any steady clock.

    Every method raises the errors of `reading` and `writing`; those with a claim raise `ClaimLostError`.
    """

    def __init__(
        self,
        engine: Engine,
        worker: str,
        kinds: Collection[Kind],
        *,
        base: str | None = None,
        seconds: float = 30.0,
        most_attempts: int = MOST_ATTEMPTS,
        clock: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self._worker = worker
        self._kinds = tuple(kinds)
        self._base = base
        self._seconds = seconds
        self._most_attempts = most_attempts
        self._clock = clock
        self._watch = ClaimWatch(steady)

    def claim(self, *, last: Sequence[str] = ()) -> Claim | None:
        """Claim the next job, or return None if there is none at the moment. Call it regularly, every few seconds.

        The jobs whose ids are in `last` come after all others, in that order. A job whose worker is gone is put back
        first, as `settle_abandoned` does.
        """
        self.settle_abandoned()
        with reading(self._engine) as session:
            query = next_job(self._kinds, self._base, now=self._now(), last=last)
            if session.scalar(query.options(HEAD_ONLY)) is None:
                return None  # the write lock is not taken for nothing
        with writing(self._engine) as session:
            row = session.scalar(next_job(self._kinds, self._base, now=self._now(), last=last))
            return None if row is None else self._take(session, row)

    def claim_this(self, job_id: str) -> Claim | None:
        """Claim a job out of its turn; return None if it is not queued any more."""
        with writing(self._engine) as session:
            fits = (JobRow.id == job_id, JobRow.kind.in_(self._kinds), JobRow.state == "queued")
            row = session.scalar(select(JobRow).where(*fits))
            return None if row is None else self._take(session, row)

    def waiting(self) -> tuple[str, Mapping[str, Had]] | None:
        """Return the tenant of the job that would be claimed next, and what each tenant has had; None if none waits."""
        now = self._now()
        with reading(self._engine) as session:
            row = session.scalar(next_job(self._kinds, self._base, now=now).options(HEAD_ONLY))
            if row is None:
                return None
            had = session.execute(had_by_tenant(self._kinds, now=now)).all()
            return row.tenant, {tenant: Had(running, worked) for tenant, running, worked in had}

    def settle_abandoned(self) -> tuple[Job, ...]:
        """Put jobs whose workers are gone back in the queue, or into the state their tenants want; return them.

        One of these fails if too many claims in a row have not got it ahead. The first calls only watch.
        """
        read_at = self._watch.now()
        held = select(JobRow).options(HEAD_ONLY).where(JobRow.kind.in_(self._kinds), JobRow.state == "running")
        with reading(self._engine) as session:
            jobs = tuple(map(head_of, session.scalars(held)))
        settled = []
        for job in self._watch.stale(jobs, read_at):
            with writing(self._engine) as session:
                same = (JobRow.id == job.id, JobRow.owner == job.owner, JobRow.beats == job.beats)
                found = read_job(session, *same, JobRow.state == "running")
                if found is not None:
                    self._put_back(session, found, "Its worker has not been heard from.")
                    settled.append(found)
        return tuple(settled)

    def renew(
        self,
        claim: Claim,
        *,
        worked: float = 0.0,
        progress: str | None = None,
        within: Callable[[Session], object] | None = None,
    ) -> Wanted | None:
        """Renew a claim, which is due several times within its seconds; return what the tenant wants of the job.

        `worked` are the seconds spent on it since the last renewal, `progress` replaces the job's (JSON). `within` is
        called in the same transaction.
        """
        values: dict[str, object] = {"beats": JobRow.beats + 1, "worked": JobRow.worked + worked}
        if progress is not None:
            values["progress"] = progress
        with writing(self._engine) as session:
            job = self._own(session, claim)
            session.execute(update(JobRow).where(JobRow.id == job.id).values(**values))
            if within is not None:
                within(session)
            return job.wanted

    def add_events(self, claim: Claim, events: Iterable[NewEvent]) -> Wanted | None:
        """Record events of the job, in order; return what the tenant wants of it."""
        with writing(self._engine) as session:
            job = self._own(session, claim)
            add_events(session, job.id, events, now=self._now())
            return job.wanted

    def add_checkpoint(
        self, claim: Claim, *, step: int, digest: str, size_bytes: int, metrics: str = "{}", keep: int = 1
    ) -> Checkpoint:
        """Record a state to go on from, whose bytes are already stored; the bytes of the newest `keep` are kept.

        Repeating it changes nothing: that is safe when a failure left it unknown whether the state was recorded.
        """
        row = JobCheckpointRow(
            id=new_id("ftckpt_"),
            job_id=claim.job.id,
            step=step,
            digest=digest,
            size_bytes=size_bytes,
            metrics=metrics,
            created=self._now(),
        )
        with writing(self._engine) as session:
            job = self._own(session, claim)
            same = _checkpoint(session, job.id, step, digest)
            if same is not None:
                return checkpoint_of(same)
            last = _last_step(session, job.id)
            session.add(row)
            session.flush()
            keep_checkpoints(session, job.id, keep)
            if last is None or step > last:
                session.execute(update(JobRow).where(JobRow.id == job.id).values(attempts=1))
            return checkpoint_of(row)

    def last_checkpoint(self, claim: Claim) -> Checkpoint | None:
        """Return the state to go on from, or None if the job begins at its start."""
        query = select(JobCheckpointRow).where(
            JobCheckpointRow.job_id == claim.job.id, JobCheckpointRow.digest.is_not(None)
        )
        with reading(self._engine) as session:
            row = session.scalar(query.order_by(JobCheckpointRow.step.desc(), JobCheckpointRow.created.desc()).limit(1))
            return None if row is None else checkpoint_of(row)

    def end(
        self,
        claim: Claim,
        state: Outcome,
        *,
        result: str | None = None,
        error: str | None = None,
        events: Iterable[NewEvent] = (),
        within: Callable[[Session], object] | None = None,
    ) -> State:
        """End the work on a job, with its result or error (JSON); return the state it is in then.

        That is `state`, but `cancelled` if the tenant has cancelled a job that was to be published. `within` is called
        in the same transaction, unless it is cancelled.
        """
        with writing(self._engine) as session:
            job = self._own(session, claim)
            if state == "publishing" and job.wanted == "cancel":
                return self._stop(session, job, "It was cancelled before its result was published.")
            if within is not None:
                within(session)
            add_events(session, job.id, events, now=self._now())
            change_state(session, job.id, state, now=self._now(), wanted=None, result=result, error=error)
            return state

    def release(self, claim: Claim) -> State:
        """Stop working on a job without blame: it is cancelled or paused if that is wanted, else queued again."""
        with writing(self._engine) as session:
            job = self._own(session, claim)
            return self._stop(session, job, f"Released by worker {self._worker}.")

    def requeue(self, claim: Claim, *, attempts: int) -> None:
        """Queue a job again, whatever is wanted of it, with so many attempts that failed; not if it is another's."""
        with writing(self._engine) as session:
            own = update(JobRow).where(JobRow.id == claim.job.id, JobRow.owner == claim.owner)
            session.execute(own.values(state="queued", owner=None, attempts=attempts))

    def crashed(self, claim: Claim, reason: str) -> State:
        """Stop working on a job after a failure that may not recur: another attempt follows, or the job has failed."""
        with writing(self._engine) as session:
            return self._put_back(session, self._own(session, claim), reason)

    def postpone(self, claim: Claim, reason: str) -> State:
        """Stop working on a job that cannot be done now for a reason outside of it, which counts as no attempt.

        Its events say each reason once, until a worker gets on with it.
        """
        with writing(self._engine) as session:
            job = self._own(session, claim)
            if job.wanted is not None:
                return self._stop(session, job, reason)
            message = f"The job waits: {reason}"
            if message not in _said_to_wait(session, job.id):
                event = NewEvent(message, level="warn", data=WAITING)
                add_events(session, job.id, [event], now=self._now())
            change_state(session, job.id, "queued", now=self._now(), attempts=max(job.attempts - 1, 0))
            return "queued"

    def _take(self, session: Session, row: JobRow) -> Claim:
        owner = f"{self._worker}:{secrets.token_hex(16)}"
        row.state, row.owner, row.seconds = "running", owner, self._seconds
        row.beats += 1
        row.attempts += 1
        row.started = self._now() if row.started is None else row.started
        session.flush()
        has_waited = bool(_said_to_wait(session, row.id))
        if not has_waited:  # else this claim may be one of many that do not get on with it
            step = _last_step(session, row.id)
            where = "" if step is None else f", from step {step}"
            message = f"Claimed by worker {self._worker}, attempt {row.attempts} of {self._most_attempts}{where}."
            add_events(session, row.id, [NewEvent(message)], now=self._now())
        return Claim(job_of(row), owner, has_waited)

    def _own(self, session: Session, claim: Claim) -> Job:
        job = read_job(session, JobRow.id == claim.job.id, JobRow.owner == claim.owner)
        if job is None:
            raise ClaimLostError(f"the job {claim.job.id} is no longer this worker's")
        return job

    def _put_back(self, session: Session, job: Job, reason: str) -> State:
        """Take a failed attempt's job from its worker, whether that is this one or another."""
        if job.wanted is not None or job.attempts < self._most_attempts:
            return self._stop(session, job, reason, level_of_event="warn", attempts=job.attempts)
        message = f"{reason} That was attempt {job.attempts} of {self._most_attempts} without progress."
        error = json.dumps({"code": "attempts_exhausted", "message": message, "param": None})
        add_events(session, job.id, [NewEvent(message, level="error")], now=self._now())
        change_state(session, job.id, "failed", now=self._now(), error=error)
        return "failed"

    def _stop(
        self, session: Session, job: Job, message: str, *, level_of_event: Level = "info", attempts: int = 0
    ) -> State:
        state: State = "queued" if job.wanted is None else REACHED[job.wanted]
        add_events(session, job.id, [NewEvent(f"{message} The job is {state}.", level=level_of_event)], now=self._now())
        change_state(session, job.id, state, now=self._now(), wanted=None, attempts=attempts)
        return state

    def _now(self) -> int:
        return int(self._clock())


def _last_step(session: Session, job_id: str) -> int | None:
    return session.scalar(select(func.max(JobCheckpointRow.step)).where(JobCheckpointRow.job_id == job_id))


def _checkpoint(session: Session, job_id: str, step: int, digest: str) -> JobCheckpointRow | None:
    same = (JobCheckpointRow.step == step, JobCheckpointRow.digest == digest)
    return session.scalar(select(JobCheckpointRow).where(JobCheckpointRow.job_id == job_id, *same).limit(1))


def _said_to_wait(session: Session, job_id: str) -> frozenset[str]:
    """Return the messages of the job's last events, as far as they say why no worker could do it."""
    query = select(JobEventRow.message, JobEventRow.data).where(JobEventRow.job_id == job_id)
    newest = session.execute(query.order_by(JobEventRow.number.desc()).limit(_LAST_EVENTS))
    return frozenset(row.message for row in takewhile(lambda row: row.data == WAITING, newest))
