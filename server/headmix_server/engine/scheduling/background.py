"""How background sequences give way to the others: which are preempted for them, and what a step may do of theirs.

Knows which sequences run; the scheduler preempts them and gives them rows.
"""

import time
from collections.abc import Callable, Mapping

from headmix_server.core.runner import Batch, BatchRow
from headmix_server.engine.scheduling.adapter_admission import AdapterAdmission
from headmix_server.engine.scheduling.background_pace import BackgroundPace
from headmix_server.engine.sequence import Sequence


class Background:
    """The background sequences among those `running`, which are in the order of their admission.

    `most` is the most tokens of any step.
    """

    def __init__(
        self, running: Mapping[int, Sequence], most: int, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.pace = BackgroundPace(most, clock=clock)
        self._running = running
        self._most = most
        self._alone = False

    def to_preempt(self, *, holds_slot: bool = False) -> list[Sequence]:
        """Return what to preempt for another sequence: the background sequence that was admitted last, if there is one.

        With `holds_slot`, it is one with an adapter, and all those with the same adapter go with it.
        """
        running = [s for s in self._running.values() if s.background and (s.leases or not holds_slot)]
        if not running:
            return []
        last = running[-1]
        return [s for s in running if s is last or (holds_slot and s.digest == last.digest)]

    def may_start(self, rows: Mapping[int, BatchRow], admission: AdapterAdmission, *, gave_way: bool) -> bool:
        """Return whether any may be admitted after the others' `rows`; `gave_way`: some were preempted for a slot.

        Where nothing else runs and nothing was taken back, what others lack does not depend on background work.
        """
        lacking = admission.lacks_slot or admission.overtaking.is_blocked
        return not (lacking and (rows or gave_way or any(not s.background for s in self._running.values())))

    def budget(self, rows: Mapping[int, BatchRow], room: int) -> int:
        """Return how many tokens of background work join the others' `rows`, of the `room` they leave; asked each step.

        None do if the step has other rows, except once in a while.
        """
        self._alone = not rows
        return min(room, self.pace.budget) if self._alone or self.pace.may_join() else 0

    def finished(self, batch: Batch, seconds: float) -> None:
        """Record how long the last step took to compute, if it was background work alone."""
        if self._alone:
            self.pace.observe(batch.num_tokens, seconds)
