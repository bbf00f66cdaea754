"""Which claimed jobs have lost their workers, decided from repeated reads on the watcher's own clock.

As with the server's lease (`database/lease/lease_watch.py`): a worker whose count has not changed for as long as it
announced is gone, and the time between two reads counts only in part.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from headmix_server.jobs.job import JobHead

LONGEST_GAP = 0.25


@dataclass(frozen=True, slots=True)
class _Watched:
    owner: str | None
    beats: int
    looked_at: float
    stood_still: float


class ClaimWatch:
    """Remembers the claims it has been shown. `clock` is any steady one."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._watched: dict[str, _Watched] = {}

    def stale(self, jobs: Iterable[JobHead], read_at: float) -> tuple[JobHead, ...]:
        """Return those of the claimed jobs whose workers are gone. `jobs` are all there are, read just after a time.

        The verdict holds only as long as owner and count stay the same.
        """
        jobs = tuple(jobs)
        self._watched = {job.id: self._look(job, read_at) for job in jobs}
        return tuple(job for job in jobs if self._watched[job.id].stood_still >= job.seconds)

    def now(self) -> float:
        """Return the time on the watcher's clock."""
        return self._clock()

    def _look(self, job: JobHead, read_at: float) -> _Watched:
        before = self._watched.get(job.id)
        if before is None or (before.owner, before.beats) != (job.owner, job.beats):
            return _Watched(job.owner, job.beats, read_at, 0.0)
        gap = min(read_at - before.looked_at, LONGEST_GAP * job.seconds)
        return _Watched(job.owner, job.beats, read_at, before.stood_still + gap)
