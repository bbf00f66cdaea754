"""The workers: heavy work on clients' texts, outside the process that serves HTTP, so that nothing else waits for it.

Owns whose turn it is. Tenants take turns, and none gets all the workers, so that a tenant with long texts delays
another by no more than the running job. Waiting jobs are bounded in bytes; beyond that, the tenant with the most loses
its newest. A caller that leaves withdraws its waiting job.
"""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from headmix_server.core.errors import ServerOverloaded
from headmix_server.text.workers.encoders import Encoders

T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")

JOB_SECONDS = 60.0
"""The seconds after which a job is ended, together with its worker."""

WAITING_BYTES = 256 << 20
_JOB_BYTES = 16 << 10
"""What a job takes besides its text; it bounds their number."""

_FULL = "Too much text is waiting to be read; try again."


class Job(Protocol[T_co]):
    """As in `worker`, with the type of its result."""

    def run(self, encoders: Encoders) -> T_co:
        """See `worker.Job`."""


class Worker(Protocol):
    """`WorkerProcess`, or a substitute in tests."""

    def run(self, job: Job[object]) -> object:
        """See `WorkerProcess`."""

    def kill(self) -> None:
        """See `WorkerProcess`."""

    def close(self) -> None:
        """See `WorkerProcess`."""


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    """A job of `size` bytes that waits for its turn."""

    tenant: str
    job: Job[object]
    size: int
    done: "asyncio.Future[Any]"


class WorkerPool:
    """Runs jobs in workers, on one event loop.

    At most `waiting_bytes` of jobs wait, and a job that runs for more than `seconds` is ended. `observe` gets the
    seconds from a job's arrival to its result.
    """

    def __init__(
        self,
        workers: Sequence[Worker],
        *,
        waiting_bytes: int = WAITING_BYTES,
        seconds: float = JOB_SECONDS,
        observe: Callable[[float], None] = lambda _: None,
    ) -> None:
        self._workers = tuple(workers)
        self._idle = list(workers)
        self._most_running = max(1, len(workers) - 1)  # per tenant
        self._waiting_bytes = waiting_bytes
        self._seconds = seconds
        self._observe = observe
        self._threads = ThreadPoolExecutor(len(workers), thread_name_prefix="text")
        self._queues: OrderedDict[str, dict[_Waiting, None]] = OrderedDict()  # by tenant; the first one is next
        self._bytes: Counter[str] = Counter()  # of waiting jobs
        self._running: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, tenant: str, job: Job[T], size: int) -> T:
        """Return the job's result, once it is the tenant's turn; `size` is what the job takes in memory, in bytes.

        Raises:
            ServerOverloaded: too much is waiting, or the worker died or took too long.
            PayloadTooLarge: the job takes too much memory.
        """
        loop = asyncio.get_running_loop()
        waiting, arrived = _Waiting(tenant, job, size + _JOB_BYTES, loop.create_future()), loop.time()
        self._queues.setdefault(tenant, {})[waiting] = None
        self._bytes[tenant] += waiting.size
        self._make_room()
        self._start_next()
        try:
            result: T = await waiting.done
        finally:
            self._forget(waiting)
        self._observe(loop.time() - arrived)
        return result

    @property
    def waiting(self) -> int:
        """The number of waiting jobs."""
        return sum(map(len, self._queues.values()))

    async def close(self) -> None:
        """End all workers; their running jobs fail."""
        for worker in self._workers:
            worker.kill()
        if self._tasks:
            await asyncio.wait(self._tasks)
        for worker in self._workers:
            await asyncio.to_thread(worker.close)
        self._threads.shutdown()

    def _make_room(self) -> None:
        while self._bytes.total() > self._waiting_bytes:
            heaviest = max(self._bytes, key=self._bytes.__getitem__)
            given_up = next(reversed(self._queues[heaviest]))
            self._forget(given_up)
            if not given_up.done.done():
                given_up.done.set_exception(ServerOverloaded(_FULL))

    def _forget(self, waiting: _Waiting) -> None:
        """Remove a job from the queue, if it is still waiting."""
        queue = self._queues.get(waiting.tenant, {})
        if waiting in queue:
            del queue[waiting]
            self._bytes -= Counter({waiting.tenant: waiting.size})
            if not queue:
                del self._queues[waiting.tenant]

    def _start_next(self) -> None:
        while self._idle and (waiting := self._next()) is not None:
            # The most recently used one: it has loaded what jobs need, and the others need not be started.
            task = asyncio.get_running_loop().create_task(self._serve(self._idle.pop(), waiting))
            self._running[waiting.tenant] += 1
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _next(self) -> _Waiting | None:
        """Take the next job: the oldest one of the first tenant that may use another worker."""
        tenant = next((name for name in self._queues if self._running[name] < self._most_running), None)
        if tenant is None:
            return None
        waiting = next(iter(self._queues[tenant]))
        self._queues.move_to_end(tenant)
        self._forget(waiting)
        return waiting

    async def _serve(self, worker: Worker, waiting: _Waiting) -> None:
        loop = asyncio.get_running_loop()
        timer = loop.call_later(self._seconds, worker.kill)
        try:
            result = await loop.run_in_executor(self._threads, worker.run, waiting.job)
        except Exception as error:  # noqa: BLE001 - raised again in the caller
            if not waiting.done.done():
                waiting.done.set_exception(error)
        else:
            if not waiting.done.done():
                waiting.done.set_result(result)
        finally:
            timer.cancel()
            self._running -= Counter((waiting.tenant,))
            self._idle.append(worker)
            self._start_next()
