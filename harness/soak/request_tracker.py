"""Tracks all requests of a walk: those open, those to be checked, and the steps that answer them."""

from collections.abc import Sequence

from harness.soak.contents import Content
from harness.soak.environment import Environment
from harness.soak.tracked_request import TrackedRequest, WrongAnswerError
from headmix_server.core.messages import Abort, LoadAdapter, Output, Request

MOST_STEPS = 20_000
"""A walk's few requests need some hundred steps; one that needs more is stuck."""


class RequestTracker:
    """Submits requests and collects their outputs."""

    def __init__(self, environment: Environment) -> None:
        self.open: dict[str, TrackedRequest] = {}
        self.closed: list[TrackedRequest] = []
        self.preemptions = 0
        self._environment = environment
        self._cancelled: dict[str, TrackedRequest] = {}

    def submit(self, messages: Sequence[Request | LoadAdapter], content: Content | None) -> list[TrackedRequest]:
        """Submit requests; `content` is what the reference registry says must answer them."""
        requests = [TrackedRequest(message, content) for message in messages]
        for request in requests:
            self.open[request.message.request_id] = request
            if isinstance(request.message, LoadAdapter):
                self._environment.engine.load(request.message)
            else:
                self._environment.engine.submit(request.message)
        return requests

    def cancel(self, request_id: str) -> None:
        """Abort a request; any output for it afterwards is wrong."""
        self._environment.engine.abort(Abort(request_id=request_id))
        request = self.open.pop(request_id)
        request.aborted = True
        self._cancelled[request_id] = request
        self.closed.append(request)

    def step(self, seconds: float = 0.01) -> None:
        """Run one step and collect its outputs; only rows of a step that the walk breaks may fail."""
        scheduler = self._environment.engine.scheduler
        names = {number: sequence.request_id for number, sequence in scheduler.running.items()}
        names |= {number: sequence.request_id for number, sequence in scheduler.waiting.items()}
        queued = set(scheduler.waiting)
        outputs = self._environment.step(seconds)
        self.preemptions += sum(s.num_outputs > 0 and n not in queued for n, s in scheduler.waiting.items())
        for number in self._environment.runner.take_broken():
            if (request := self.open.get(names[number])) is not None:
                request.excuse({"internal_error"})
        for output in outputs:
            self._file(output)
        for account in self._environment.engine.accounts.take():
            self._cancelled[account.request_id].take_account(account.counts)

    def _file(self, output: Output) -> None:
        request = self.open.get(output.request_id) or self._cancelled.get(output.request_id)
        if request is None:
            raise WrongAnswerError(f"nobody asked for {output}")
        request.take(output)
        if request.ended:
            self.closed.append(self.open.pop(output.request_id))

    def excuse_missing(self, digests: Sequence[str]) -> None:
        """Allow requests whose artifact has just been deleted to fail: their adapter may not have been loaded yet."""
        for request in self.open.values():
            if request.content is not None and request.content.digest in digests:
                request.excuse({"model_not_found"})

    def drain(self) -> None:
        """Step until the engine is idle.

        Raises:
            WrongAnswerError: it never becomes idle, or a request was never answered.
        """
        self._environment.runner.clear_faults()
        for _ in range(MOST_STEPS):
            if self._environment.engine.idle:
                break
            self.step()
        else:
            raise WrongAnswerError("the engine never came to rest")
        if self.open:
            raise WrongAnswerError(f"never answered: {sorted(self.open)}")
        self._cancelled.clear()

    def take_closed(self) -> list[TrackedRequest]:
        """Return the requests that ended or were cancelled since the last call."""
        closed, self.closed = self.closed, []
        return closed
