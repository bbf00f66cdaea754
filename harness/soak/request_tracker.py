"""Everything a walk has asked of the engine: open tickets, those to be judged, and the steps that answer them."""

from collections.abc import Sequence

from harness.soak.contents import Content
from harness.soak.environment import World
from harness.soak.tracked_request import Ticket, WrongAnswerError
from headmix_server.core.messages import Abort, LoadAdapter, Output, Request

MOST_STEPS = 20_000
"""A walk's few requests need some hundred steps; who needs more is stuck."""


class Desk:
    """Hands requests in and sorts the answers."""

    def __init__(self, world: World) -> None:
        self.open: dict[str, Ticket] = {}
        self.closed: list[Ticket] = []
        self.preemptions = 0
        self._world = world
        self._cancelled: dict[str, Ticket] = {}

    def submit(self, messages: Sequence[Request | LoadAdapter], content: Content | None) -> list[Ticket]:
        """Hand requests in; `content` is what the registry on paper says they must be answered with."""
        tickets = [Ticket(message, content) for message in messages]
        for ticket in tickets:
            self.open[ticket.message.request_id] = ticket
            if isinstance(ticket.message, LoadAdapter):
                self._world.engine.load(ticket.message)
            else:
                self._world.engine.submit(ticket.message)
        return tickets

    def cancel(self, request_id: str) -> None:
        """Abort a request; whatever is said to it afterwards is wrong."""
        self._world.engine.abort(Abort(request_id=request_id))
        ticket = self.open.pop(request_id)
        ticket.aborted = True
        self._cancelled[request_id] = ticket
        self.closed.append(ticket)

    def step(self, seconds: float = 0.01) -> None:
        """Make one step and file what it says; the rows of a step the walk breaks may fail, and nobody else."""
        scheduler = self._world.engine.scheduler
        names = {number: sequence.request_id for number, sequence in scheduler.running.items()}
        names |= {number: sequence.request_id for number, sequence in scheduler.waiting.items()}
        queued = set(scheduler.waiting)
        outputs = self._world.step(seconds)
        self.preemptions += sum(s.num_outputs > 0 and n not in queued for n, s in scheduler.waiting.items())
        for number in self._world.runner.take_broken():
            if (ticket := self.open.get(names[number])) is not None:
                ticket.excuse({"internal_error"})
        for output in outputs:
            self._file(output)
        for account in self._world.engine.accounts.take():
            self._cancelled[account.request_id].take_account(account.counts)

    def _file(self, output: Output) -> None:
        ticket = self.open.get(output.request_id) or self._cancelled.get(output.request_id)
        if ticket is None:
            raise WrongAnswerError(f"nobody asked for {output}")
        ticket.take(output)
        if ticket.ended:
            self.closed.append(self.open.pop(output.request_id))

    def excuse_missing(self, digests: Sequence[str]) -> None:
        """Allow requests whose artifact has just been deleted to find it gone: their adapter may not be loaded yet."""
        for ticket in self.open.values():
            if ticket.content is not None and ticket.content.digest in digests:
                ticket.excuse({"model_not_found"})

    def drain(self) -> None:
        """Step until the engine is idle.

        Raises:
            WrongAnswerError: it never is, or a request was never answered.
        """
        self._world.runner.mend()
        for _ in range(MOST_STEPS):
            if self._world.engine.idle:
                break
            self.step()
        else:
            raise WrongAnswerError("the engine never came to rest")
        if self.open:
            raise WrongAnswerError(f"never answered: {sorted(self.open)}")
        self._cancelled.clear()

    def take_closed(self) -> list[Ticket]:
        """Return what has ended or was cancelled since the last call."""
        closed, self.closed = self.closed, []
        return closed
