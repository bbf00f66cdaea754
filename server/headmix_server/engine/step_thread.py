"""The one thread that computes steps while the engine's own thread receives messages.

Owns the thread and the signal that a step has finished. It lives as long as the engine, because a compute library keeps
a separate thread pool for every thread that calls it. The engine interprets batches and results.
"""

import queue
import threading
from collections.abc import Callable
from collections.abc import Sequence as Seq

import zmq

from headmix_server.core.runner import Batch, RowResult

LANDED_ENDPOINT = "inproc://step-landed"

Outcome = Seq[RowResult] | BaseException
"""The outcome of a step: its results, or the exception it raised."""


class StepThread:
    """Computes one batch at a time; `landed` becomes readable when it is done, to be polled with other sockets."""

    def __init__(self, run: Callable[[Batch], Seq[RowResult]], context: zmq.Context[zmq.Socket[bytes]]) -> None:
        self._run = run
        self._batches: queue.SimpleQueue[Batch | None] = queue.SimpleQueue()
        self._outcomes: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
        self.landed: zmq.Socket[bytes] = context.socket(zmq.PAIR)
        self.landed.bind(LANDED_ENDPOINT)
        self._signal: zmq.Socket[bytes] = context.socket(zmq.PAIR)
        self._signal.connect(LANDED_ENDPOINT)
        self._thread = threading.Thread(target=self._work, name="steps", daemon=True)
        self._thread.start()

    def start(self, batch: Batch) -> None:
        """Begin to compute a batch; the outcome of the previous one must have been taken."""
        self._batches.put(batch)

    def take(self) -> Outcome:
        """Wait for the step to finish and return its outcome.

        Anything but an `Exception`, such as `SystemExit`, has ended the thread: no further step may be started.
        """
        self.landed.recv()
        return self._outcomes.get()

    def _work(self) -> None:
        alive = True
        while alive and (batch := self._batches.get()) is not None:
            outcome: Outcome
            try:
                outcome = self._run(batch)
            except BaseException as error:  # noqa: BLE001 - the engine must learn of anything that ends this thread
                outcome = error
                alive = isinstance(error, Exception)
            self._outcomes.put(outcome)
            self._signal.send(b"")

    def close(self) -> None:
        """Wait for the step in flight, if there is one, and end the thread; may be called more than once."""
        self._batches.put(None)
        self._thread.join()
        for socket in (self.landed, self._signal):
            socket.close(linger=0)
